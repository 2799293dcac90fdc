#!/usr/bin/env bash
# Make what the configuration files need and no repository may hold: an authority, a certificate for
# each server, passwords. What exists already is kept, so that servers can be added later.
#
#   ./prepare.sh DIRECTORY NAME...      for example: ./prepare.sh secrets n1 n2 n3
#
# A NAME is the host's name as the other servers and the clients use it. Give each host ca.pem,
# users.conf and its own NAME.pem and NAME-key.pem, as server.pem and server-key.pem; clients need
# ca.pem alone (DTEST_NATS_CA). ca-key.pem stays where this was run.
set -euo pipefail
if [ $# -lt 2 ]; then
  sed -n '5p;7,9p' "$0" >&2
  exit 2
fi
directory=$1
shift
umask 077
mkdir -p "$directory"
cd "$directory"

days=3650
if [ ! -e ca.pem ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days "$days" \
    -subj "/CN=dtest NATS authority" -keyout ca-key.pem -out ca.pem \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" 2>/dev/null
fi
for name in "$@"; do
  if [ ! -e "$name.pem" ]; then
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
      -subj "/CN=$name" -keyout "$name-key.pem" -out "$name.csr" 2>/dev/null
    printf '%s\n' "subjectAltName=DNS:$name,DNS:localhost,IP:127.0.0.1" \
      "extendedKeyUsage=serverAuth,clientAuth" "authorityKeyIdentifier=keyid" \
      "basicConstraints=CA:FALSE" >"$name.ext"
    openssl x509 -req -in "$name.csr" -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days "$days" \
      -extfile "$name.ext" -out "$name.pem" 2>/dev/null
    rm "$name.csr" "$name.ext"
  fi
done
if [ ! -e users.conf ]; then
  for user in DTEST CLIENT SYSTEM; do
    printf '%s_PASSWORD: "%s"\n' "$user" "$(openssl rand -hex 32)"
  done >users.conf
fi
