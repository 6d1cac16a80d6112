#!/usr/bin/env bash
# Carry the environment to a disk of each node, so that a thousand nodes do not read 20,000 small files each from the
# shared file system: packed into one file, read once, handed on from slurmd to slurmd (sbcast), unpacked on every node.
#
#   local="$(slurm/carry.sh ENVIRONMENT FOLDER)"; export PATH="$local/bin:$PATH" LD_LIBRARY_PATH="$local/lib"
#
# Inside an allocation. FOLDER is on each node's own disk or memory. Prints where the environment is now; its programs
# start the copy's Python. The package kilonode itself, if it is installed editable, is still read from the checkout.
set -euo pipefail

environment=$(cd -- "$1" && pwd)
folder=$2/kilonode-$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}
pack=$environment/carried.tar
say() { echo "carry.sh: $*" >&2; }
since() { awk -v from="$1" -v to="${2:-$EPOCHREALTIME}" 'BEGIN { printf "%.1f s", to - from }'; }
on_every_node() { srun --ntasks-per-node=1 -N "$SLURM_JOB_NUM_NODES" -n "$SLURM_JOB_NUM_NODES" -c 1 "$@"; }

[[ -f $environment/pyvenv.cfg ]] || {
    say "expected a virtual environment, got none ($environment/pyvenv.cfg); run make env"
    exit 2
}

# The pack stays for the next job, until pip has changed something.
changed() { find "$environment" -maxdepth 4 -newer "$pack" \( -name site-packages -o -name bin \) -print -quit; }
if [[ ! -f $pack || -n $(changed) ]]; then
    begin=$EPOCHREALTIME
    tar -C "$environment" --exclude='./carried.tar*' --exclude='*.a' -cf "$pack.$$" .
    mv -f "$pack.$$" "$pack"
    say "packed $(($(stat -c %s "$pack") >> 20)) MiB in $(since "$begin")"
fi

# Scripts name their Python by its whole path: that of the copy instead.
# shellcheck disable=SC2016  # the nodes' shells fill these in
unpack='set -e; mkdir -p "$1"; tar -C "$1" -xf "$1.tar"; rm "$1.tar"
grep -lIZ "^#!$2/bin/python" "$1"/bin/* | xargs -0r sed -i "1s|^#!$2/bin/|#!$1/bin/|"'

begin=$EPOCHREALTIME
on_every_node mkdir -p "$2"
sbcast --force "$pack" "$folder.tar"
sent=$EPOCHREALTIME
on_every_node sh -c "$unpack" carry "$folder" "$environment"
say "to $SLURM_JOB_NUM_NODES nodes in $(since "$begin" "$sent"), unpacked in $(since "$sent") ($folder)"
echo "$folder"
