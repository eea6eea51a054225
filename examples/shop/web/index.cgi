#!/bin/sh
# One page out of what auth and catalogue say, each with its own line on which copy it is.
bad="$(printf 'Status: 502 Bad Gateway\r\n.')"
bad="${bad%.}"
status=
auth="$(timeout 5 wget -q -O - http://auth/ 2>&1)" || auth="error: web: auth: $auth"
catalogue="$(timeout 10 wget -q -O - http://catalogue/ 2>&1)" || catalogue="error: web: catalogue: $catalogue"

case "$auth$catalogue" in *error:*) status="$bad" ;; esac
printf '%sContent-Type: text/plain\r\n\r\n' "$status"
echo "web: $(hostname) $(hostname -i)"
echo "$auth"
echo "$catalogue"
