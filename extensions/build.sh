#!/bin/sh
# Builds the front end: installs its tools when package-lock.json has changed, then bundles.  Called by ./edif.
set -eu
cd "$(dirname "$0")"

command -v npm >/dev/null 2>&1 || {
    echo "Node.js with npm is missing: install it (Debian, Ubuntu: apt-get install nodejs npm) and run this again." >&2
    exit 1
}

lock=$(cksum <package-lock.json)
if [ "$(cat node_modules/.edif-lock 2>/dev/null || true)" != "$lock" ]; then
    npm ci --loglevel=error >/dev/null
    echo "$lock" >node_modules/.edif-lock
fi
exec node build.mjs
