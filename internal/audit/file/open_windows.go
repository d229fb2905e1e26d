package file

const openFlags = 0
