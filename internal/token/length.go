package token

// Length is the length of a service token, in bytes.
const Length = len(prefixService) + randomWidth + checkWidth
