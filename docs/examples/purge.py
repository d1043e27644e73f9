#!/usr/bin/env python3
"""Asks a Seawall purge API for a purge, signed with a shared secret. Python 3.8 or later, nothing else.

    SEAWALL_PURGE_API=https://purge.example:9443 SEAWALL_PURGE_KEY_ID=origin-2026-11 \
    SEAWALL_PURGE_KEY_FILE=/etc/origin/purge.key \
    python3 purge.py '{"target": {"surrogate_keys": ["event-7"]}, "mode": "soft"}'

Exits with 0 if the purge is accepted, and prints what the API answers.
"""

import hashlib
import hmac
import http.client
import os
import secrets
import sys
import time
import urllib.parse

SIGNED_HEADERS = ("Idempotency-Key", "Surrogate-Key", "Fastly-Soft-Purge", "Seawall-Confirm")


def authorization(key_id, secret, method, path, host, headers, body):
    """Returns the value of the field Authorization."""
    timestamp = str(int(time.time()))
    nonce = secrets.token_hex(16)
    lines = ["SEAWALL-HMAC-SHA256", method, path, host, hashlib.sha256(body).hexdigest(), timestamp, nonce]
    lines += [headers.get(name, "") for name in SIGNED_HEADERS]
    signature = hmac.new(secret, "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    return f"Seawall-HMAC-SHA256 key={key_id}, timestamp={timestamp}, nonce={nonce}, signature={signature}"


def purge(api, key_id, secret, body, attempts=3):
    """Asks for a purge; tries again when it makes sense, as the same purge."""
    url = urllib.parse.urlsplit(api)
    connect = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    path = "/v1/purges"
    # The same for every attempt: a purge that was accepted without our knowing is not made twice.
    headers = {"Content-Type": "application/json", "Idempotency-Key": secrets.token_hex(16)}
    for attempt in range(attempts):
        headers["Authorization"] = authorization(key_id, secret, "POST", path, url.netloc, headers, body)
        connection = connect(url.netloc, timeout=30)
        try:
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read().decode()
            if answer.status not in (429, 503) or attempt + 1 == attempts:
                return answer.status, text
            wait = int(answer.getheader("Retry-After", "1"))
        except OSError:
            if attempt + 1 == attempts:
                raise
            wait = 1
        finally:
            connection.close()
        time.sleep(wait)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(os.environ["SEAWALL_PURGE_KEY_FILE"], "rb") as file:
        secret = file.read().strip()
    api, key_id = os.environ["SEAWALL_PURGE_API"], os.environ["SEAWALL_PURGE_KEY_ID"]
    status, text = purge(api, key_id, secret, sys.argv[1].encode())
    print(text)
    sys.exit(0 if 200 <= status < 300 else 1)


if __name__ == "__main__":
    main()
