#!/bin/sh
# Lists the one product: its stock is in redis, its price is asked of pricing.
bad="$(printf 'Status: 502 Bad Gateway\r\n.')"
bad="${bad%.}"
status=
answer="$(printf 'SETNX stock 100\r\nGET stock\r\nCLIENT INFO\r\nINFO server\r\nQUIT\r\n' | nc -w 5 redis 6379 2>&1 | tr -d '\r')"
stock="$(echo "$answer" | sed -n '3p')"
address="$(echo "$answer" | sed -n 's/.* laddr=\([^:]*\):.*/\1/p')"
run="$(echo "$answer" | sed -n 's/^run_id:\(.\{12\}\).*/\1/p')"
if [ -n "$run" ]; then redis="catalogue-redis: $run $address"; else redis="error: catalogue: redis: $answer"; fi

pricing="$(timeout 5 wget -q -O - http://pricing/ 2>&1)" || pricing="error: catalogue: pricing: $pricing"

case "$redis$pricing" in *error:*) status="$bad" ;; esac
printf '%sContent-Type: text/plain\r\n\r\n' "$status"
echo "catalogue: $(hostname) $(hostname -i)"
echo "$redis"
[ -z "$run" ] || echo "stock: $stock"
echo "$pricing"
