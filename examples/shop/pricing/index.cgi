#!/bin/sh
# Prices are worked out here, with no state and no help.
printf 'Content-Type: text/plain\r\n\r\n'
echo "pricing: $(hostname) $(hostname -i)"
echo "price: 42"
