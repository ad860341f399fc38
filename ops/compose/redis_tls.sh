#!/bin/sh
# Makes the certificates with which Redis is published to other hosts: redis_tls.sh NAME [NAME…]
# NAMEs are the host names and addresses under which workers reach it. What exists is kept; --days N (default 825).
set -eu
folder=${PENDRA_SECRETS:-./secrets}
days=825
if [ "${1:-}" = --days ]; then days=$2; shift 2; fi
[ $# -gt 0 ] || { echo "usage: redis_tls.sh [--days N] NAME [NAME…]" >&2; exit 2; }
command -v openssl >/dev/null || { echo "redis_tls: openssl is missing: apt-get install openssl" >&2; exit 1; }

sans=""
for name in "$@"; do
    case $name in
        *[!0-9.:a-fA-F]*) kind=DNS ;;
        *.*.*.*|*:*) kind=IP ;;
        *) kind=DNS ;;
    esac
    sans="$sans${sans:+,}$kind:$name"
done

umask 077
mkdir -p "$folder"
if [ ! -e "$folder/redis_ca.pem" ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Pendra fleet" \
        -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" \
        -keyout "$folder/redis_ca_key.pem" -out "$folder/redis_ca.pem" 2>/dev/null
    echo "made $folder/redis_ca.pem: give it to every worker host; keep redis_ca_key.pem off line"
fi
if [ ! -e "$folder/redis_cert.pem" ]; then
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
        -keyout "$folder/redis_cert_key.pem" -out "$folder/redis_cert.csr" 2>/dev/null
    printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$sans" >"$folder/redis_cert.ext"
    openssl x509 -req -in "$folder/redis_cert.csr" -CA "$folder/redis_ca.pem" -CAkey "$folder/redis_ca_key.pem" \
        -CAcreateserial -days "$days" -extfile "$folder/redis_cert.ext" -out "$folder/redis_cert.pem" 2>/dev/null
    rm -f "$folder/redis_cert.csr" "$folder/redis_cert.ext"
    echo "made $folder/redis_cert.pem for $sans, valid for $days days"
fi
# in a folder that only its owner may enter; the container's user is another one and reads these three
chmod 0444 "$folder/redis_ca.pem" "$folder/redis_cert.pem" "$folder/redis_cert_key.pem"
