# A server on one machine. Copy to /etc/rotunda/rotunda.hcl, change what is in
# capitals, and check it:
#
#   rotunda server --check --config /etc/rotunda/rotunda.hcl
#
# Every setting is in docs/reference/config.md.

api_addr     = "https://VAULT.EXAMPLE.ORG:8200"
cluster_name = "rotunda"

listener "tcp" {
  address = "0.0.0.0:8200"

  # A certificate of an authority of the server's own. With one of yours, take
  # this away and name its files; they are read again when they change:
  #   tls_cert_file = "/etc/rotunda/tls/cert.pem"
  #   tls_key_file  = "/etc/rotunda/tls/key.pem"
  tls_auto = true
}

storage "bolt" {
  path = "/var/lib/rotunda/data"
}

# People unseal with shares of a key: that is what a server without a seal
# stanza does. To have it unseal itself, name a key file on another volume than
# the data:
#
#   seal "keyfile" {
#     path = "/var/lib/rotunda/config/seal.key"
#   }

# This node's keys, apart from the data.
keys_dir = "/var/lib/rotunda/config/keys"

# A backup that is written, read again and found whole every night; a directory on another disk is
# better. Whoever restores it needs what unseals the server.
backup {
  dir      = "/var/lib/rotunda/backups"
  schedule = "30 3 * * *"
  keep     = 14
}

# The audit journal is always kept. This is a copy of it that other programs can read.
audit "file" "lines" {
  file_path = "/var/log/rotunda/audit.log"
}
