#!/bin/sh
# Asks a Seawall purge API for a purge, signed with a shared secret. Needs curl and openssl.
#
#   SEAWALL_PURGE_API=https://purge.example:9443 SEAWALL_PURGE_KEY_ID=origin-2026-11 \
#   SEAWALL_PURGE_KEY_FILE=/etc/origin/purge.key \
#   sh purge.sh '{"target": {"url": {"host": "live.example", "path": "/a/index.m3u8"}}}'
#
# Exits with 0 if the purge is accepted, and prints what the API answers.
set -eu

body=$1
api=${SEAWALL_PURGE_API%/}
host=${api#*://}
path=/v1/purges
secret=$(cat "$SEAWALL_PURGE_KEY_FILE")
idempotency_key=$(openssl rand -hex 16)
nonce=$(openssl rand -hex 16)
timestamp=$(date +%s)

hash=$(printf '%s' "$body" | openssl dgst -sha256 -r | cut -d' ' -f1)
# Idempotency-Key, then Surrogate-Key, Fastly-Soft-Purge and Seawall-Confirm, which are not sent.
# The secret is an argument of openssl: on a machine with other users, use purge.py.
signature=$(printf 'SEAWALL-HMAC-SHA256\nPOST\n%s\n%s\n%s\n%s\n%s\n%s\n\n\n' \
    "$path" "$host" "$hash" "$timestamp" "$nonce" "$idempotency_key" |
    openssl dgst -sha256 -hmac "$secret" -r | cut -d' ' -f1)

exec curl --silent --show-error --fail-with-body --max-time 30 "$api$path" \
    --header 'Content-Type: application/json' \
    --header "Idempotency-Key: $idempotency_key" \
    --header "Authorization: Seawall-HMAC-SHA256 key=$SEAWALL_PURGE_KEY_ID, timestamp=$timestamp, nonce=$nonce, signature=$signature" \
    --data-binary "$body"
