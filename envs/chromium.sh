#!/bin/sh
# Install Chromium for the tests of the report page, as root on Debian or a relative of it. It draws pages from the disk
# and is driven over two pipes: no driver, no service. Exit 2: not possible here, the reason is printed.
set -eu

package=chromium

refuse() {
    echo "chromium.sh: $1" >&2
    exit 2
}

for program in chromium chromium-browser google-chrome chrome; do
    if command -v "$program" >/dev/null; then
        echo "chromium.sh: already installed ($(command -v "$program")); nothing to do"
        exit 0
    fi
done
[ "$(id -u)" = 0 ] || refuse "expected root, got user $(id -un); run: sudo $0"
command -v apt-get >/dev/null ||
    refuse "expected Debian or a relative of it, got a system without apt-get; install Chromium by its own means"

install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$package"
}

install || { apt-get update -q && install; } ||
    refuse "expected apt-get to install $package, got an error (see above); check the package sources"
command -v chromium >/dev/null ||
    refuse "expected $package to bring the program chromium, got none; install Chromium by your system's own means"
echo "chromium.sh: installed $(chromium --version 2>/dev/null | tail -n 1)"
