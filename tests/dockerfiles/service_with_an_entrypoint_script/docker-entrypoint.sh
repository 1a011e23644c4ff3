#!/bin/sh
set -e
if [ "$1" = service ] && [ "$(id -u)" = 0 ]; then
  chown -R web "$DATA"
fi
exec "$@"
