package aead

import "encoding/binary"

// AAD is additional data: what a message is bound to without containing it.
// It is a list of fields,
//
//	field 1 | length uvarint | bytes
//
// so no two different lists are the same bytes, as joined strings could be.
type AAD []byte

// Field says what a part of an [AAD] is.
type Field byte

// The fields. Their numbers are in what is stored and never change.
const (
	FieldUse        Field = 1  // what the message is, in words; always the first
	FieldCluster    Field = 2  // id of the cluster
	FieldSpace      Field = 3  // id of the space
	FieldScope      Field = 4  // scope in the physical store
	FieldRow        Field = 5  // row in the physical store
	FieldGeneration Field = 6  // of the key
	FieldSecret     Field = 7  // id of the secret
	FieldVersion    Field = 8  // id of the version
	FieldKind       Field = 9  // of the value
	FieldTerm       Field = 10 // of the key-encrypting key
	FieldBinding    Field = 11 // of a seal
	FieldSlot       Field = 12 // parameters of a seal slot
	FieldFile       Field = 13 // digest of a file's header
	FieldNumber     Field = 14 // of a part of a file
)

// For begins an AAD of a message whose use is said in words.
func For(use string) AAD { return AAD(nil).Str(FieldUse, use) }

// Add appends a field.
func (a AAD) Add(f Field, v []byte) AAD {
	return append(binary.AppendUvarint(append(a, byte(f)), uint64(len(v))), v...)
}

// Str is [AAD.Add] for a string.
func (a AAD) Str(f Field, v string) AAD {
	return append(binary.AppendUvarint(append(a, byte(f)), uint64(len(v))), v...)
}

// Num is [AAD.Add] for a number, as eight bytes in big-endian order.
func (a AAD) Num(f Field, n uint64) AAD {
	return binary.BigEndian.AppendUint64(append(a, byte(f), 8), n)
}
