#!/bin/sh
# Counts the visit in redis.
bad="$(printf 'Status: 502 Bad Gateway\r\n.')"
bad="${bad%.}"
status=
answer="$(printf 'INCR visits\r\nCLIENT INFO\r\nINFO server\r\nQUIT\r\n' | nc -w 5 redis 6379 2>&1 | tr -d '\r')"
visits="$(echo "$answer" | sed -n '1s/^://p')"
address="$(echo "$answer" | sed -n 's/.* laddr=\([^:]*\):.*/\1/p')"
run="$(echo "$answer" | sed -n 's/^run_id:\(.\{12\}\).*/\1/p')"

[ -n "$visits" ] || status="$bad"
printf '%sContent-Type: text/plain\r\n\r\n' "$status"
echo "auth: $(hostname) $(hostname -i)"
if [ -n "$visits" ]; then
	echo "auth-redis: $run $address"
	echo "visits: $visits"
else
	echo "error: auth: redis: $answer"
fi
