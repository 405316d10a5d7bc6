#!/bin/sh
# What the stack needs before its workers start. Safe to run again at any time: it makes what is
# missing, and changes what is different.
set -eu

# Doodles to try everything with. Whole or not at all, should this be stopped meanwhile.
if [ ! -d /data/demo/csv ]; then
    rm -rf /data/demo/unfinished
    quickdraw generate /data/demo/unfinished --classes 24 --rows 500
    mv /data/demo/unfinished /data/demo/csv
fi

exec quickdraw deploy
