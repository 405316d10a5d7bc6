#!/bin/sh
# What the stack needs before its workers start. Safe to run again at any time: it makes what is
# missing, and changes what is different.
set -eu

if [ "$QUICKDRAW_SOURCE" = /data/demo/csv ]; then
    sh /app/infra/demo_doodles.sh
fi
exec quickdraw deploy
