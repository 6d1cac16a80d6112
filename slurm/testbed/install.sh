#!/bin/sh
# Install Slurm and munge for the test cluster, as root on Debian or a relative of it.
# No daemon is started now and none is enabled for the next boot: `testbed up` starts its own.
set -eu

PATH=$PATH:/usr/sbin:/sbin # Debian keeps the daemons there, and some users' PATH leaves it out
packages="slurm-wlm munge"
policy=/usr/sbin/policy-rc.d

refuse() {
    echo "install.sh: $1" >&2
    exit 2
}

installed() {
    for program in munged munge slurmctld slurmd srun; do
        command -v "$program" >/dev/null || return 1
    done
}

# dpkg asks policy-rc.d before it starts a service; 101 means no. An existing policy comes back afterwards.
forbid_services() {
    if [ -e "$policy" ] && [ ! -e "$policy.kilonode" ]; then mv "$policy" "$policy.kilonode"; fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

restore_policy() {
    rm -f "$policy"
    if [ -e "$policy.kilonode" ]; then mv "$policy.kilonode" "$policy"; fi
}

apt_install() {
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $packages
}

if installed; then
    echo "install.sh: already installed ($(slurmctld -V), $(munged -V | head -n 1)); nothing to do"
    exit 0
fi
[ "$(id -u)" = 0 ] || refuse "expected root, got user $(id -un); run: sudo $0"
command -v apt-get >/dev/null ||
    refuse "expected Debian or a relative of it, got a system without apt-get; install Slurm and munge by its own means"

new_services="" # a service that is already there keeps what its owner chose
for service in munge slurmctld slurmd; do
    if [ ! -e "/etc/init.d/$service" ]; then new_services="$new_services $service"; fi
done
trap restore_policy EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
forbid_services
apt_install || { apt-get update -q && apt_install; } ||
    refuse "expected apt-get to install $packages, got an error (see above); check the package sources"
for service in $new_services; do update-rc.d "$service" disable; done
echo "install.sh: installed $(slurmctld -V) and $(munged -V | head -n 1); no service was started or enabled"
