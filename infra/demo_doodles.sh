#!/bin/sh
# Doodles to try everything with, unless they are there. Whole or not at all, should this be
# stopped meanwhile.
set -eu

if [ ! -d /data/demo/csv ]; then
    rm -rf /data/demo/unfinished
    quickdraw generate /data/demo/unfinished --classes 24 --rows 500
    mv /data/demo/unfinished /data/demo/csv
fi
