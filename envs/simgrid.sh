#!/bin/sh
# Install SimGrid (smpicc, smpirun) for `kilonode scaling simulate`, as root on Debian or a relative of it. Version 3.32
# is what Debian 12 has and what the replay was checked with. Exit 2: not possible here, the reason is printed.
set -eu

package=libsimgrid-dev

refuse() {
    echo "simgrid.sh: $1" >&2
    exit 2
}

if command -v smpicc >/dev/null && command -v smpirun >/dev/null; then
    echo "simgrid.sh: already installed ($(smpirun -version 2>&1 | head -n 1)); nothing to do"
    exit 0
fi
[ "$(id -u)" = 0 ] || refuse "expected root, got user $(id -un); run: sudo $0"
command -v apt-get >/dev/null ||
    refuse "expected Debian or a relative of it, got a system without apt-get; install SimGrid by its own means"

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package"
}

install || { apt-get update -q && install; } ||
    refuse "expected apt-get to install $package, got an error (see above); check the package sources"
echo "simgrid.sh: installed $(smpirun -version 2>&1 | head -n 1)"
