#!/bin/sh
# All modules to bytecode: containers cannot write theirs, and would compile them at every start.
# Packages hold a few files that are templates, or of other versions of Python; they may fail.
python -m compileall -q -j 0 "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    >/dev/null 2>&1 || true
