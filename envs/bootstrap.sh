#!/usr/bin/env bash
# Makes .venv in this checkout: exactly the packages of envs/pins.txt, Horovod built against MPI, and kilonode itself
# installed editable. Needs no root and touches nothing else but the wheel cache (see envs/README.md).
#
#   KILONODE_PYTHON   the Python to use (default python3.11)
#   KILONODE_MPI      mpich: the pinned MPICH wheel (default); site: the MPI whose mpicc is on PATH
#   KILONODE_CACHE    where the Horovod wheel is kept (default ${XDG_CACHE_HOME:-~/.cache}/kilonode)
#
# Safe to run again: with nothing to do it takes a fraction of a second. The stamp is written last, and whatever lacks
# it is made again from the start, because a half-made environment cannot be told from a whole one.
set -euo pipefail
shopt -s inherit_errexit

cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
# shellcheck source=envs/horovod.sh
source envs/horovod.sh

PYTHON=3.11                  # the pins are one resolution for this version; pyproject.toml says why this one
VENV=.venv
STAMP=$VENV/kilonode.stamp

# A module system's PYTHONPATH, a user's ~/.local or pip.conf, or a .venv that is active must not leak in.
clean_environment() {
  unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_ROOT VIRTUAL_ENV
  export PYTHONNOUSERSITE=1 PIP_USER=0 PIP_NO_INPUT=1 PIP_DISABLE_PIP_VERSION_CHECK=1
  local path=":$PATH:"
  path=${path//":$PWD/$VENV/bin:"/:}
  path=${path#:}
  export PATH=${path%:}
}

# python_facts PYTHON: "VERSION EXECUTABLE"; the executable below any shim or virtual environment.
# Exit 4: another version; 5: the standard library lacks venv.
python_facts() {
  "$1" - "$PYTHON" <<'PY'
import os, sys
print("%d.%d.%d" % sys.version_info[:3], os.path.realpath(sys.executable))
if "%d.%d" % sys.version_info[:2] != sys.argv[1]:
    sys.exit(4)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(5)
PY
}

# find_python: the facts of the Python to use, or one line that says what to install
find_python() {
  local python=${KILONODE_PYTHON:-python$PYTHON} facts status=0
  facts=$(python_facts "$python" 2>/dev/null) || status=$?
  case $status in
    0) printf '%s\n' "$facts" ;;
    4) die "needs Python $PYTHON, got ${facts% *} ($python); set KILONODE_PYTHON to a python$PYTHON" ;;
    5) die "needs the venv module, $python lacks it; apt-get install python$PYTHON-venv" ;;
    *) die "needs Python $PYTHON, got nothing that runs as '$python'; apt-get install python$PYTHON python$PYTHON-venv" \
      "python$PYTHON-dev, or set KILONODE_PYTHON to a python$PYTHON" ;;
  esac
}

# stamp FACTS: what the environment was made from. Scripts in .venv/bin hold absolute paths, so the place counts.
stamp() {
  printf 'pins %s\npython %s\nmpi %s %s\nplace %s\n' "$(sha256sum <"$PINS")" "$1" "${KILONODE_MPI:-mpich}" \
    "$([[ ${KILONODE_MPI:-mpich} == mpich ]] || command -v mpicc || true)" "$PWD"
}

# is_current: the environment is whole and nothing it was made from has changed
is_current() {
  local facts
  [[ -f $STAMP ]] && facts=$(python_facts "$VENV/bin/python" 2>/dev/null) || return 1
  [[ -z ${KILONODE_PYTHON:-} || $(python_facts "$KILONODE_PYTHON" 2>/dev/null) == "$facts" ]] || return 1
  [[ $(<"$STAMP") == "$(stamp "$facts")" ]]
}

# lock: one set-up at a time in a checkout. The lock is on the pins, so that no file is added (a script that is open for
# writing cannot be started); file systems without locks (some Lustre mounts) go without.
lock() {
  { exec 9<>"$PINS"; } 2>/dev/null || return 0
  flock -n 9 2>/dev/null && return 0
  say "another set-up runs in this checkout: waiting for it"
  flock 9 2>/dev/null || true
}

# preflight PYTHON: what can be known before the first download
preflight() {
  local cached
  [[ ${KILONODE_MPI:-mpich} == @(mpich|site) ]] || die "KILONODE_MPI must be mpich or site, got '$KILONODE_MPI'"
  cached=$(compgen -G "$(cache_root)/$(pin horovod | sed 's/==/-/')-torch*-$(uname -m)" || true)
  if [[ -z $cached ]]; then
    check_tools "$1"
    need_cache
  fi
  need_space . 3000 "the environment"
  mkdir -p -- "$VENV" 2>/dev/null && [[ -w $VENV ]] || die "cannot write to $PWD/$VENV; use a checkout of your own"
}

pip() { "$VENV/bin/python" -m pip "$@"; }

# install ARGUMENT...: quiet unless it fails. Bytecode comes later, for all packages at once on all cores.
install() {
  pip install -qq --no-compile "$@" ||
    die "pip failed, its message is above; PIP_INDEX_URL and PIP_EXTRA_INDEX_URL choose the index. Then run make env again"
}

install_packages() {
  say "installing $(pin torch)"
  install "$(pin pip)"
  install -c "$PINS" "$(pin torch)"   # with its dependencies: a GPU build brings packages that the CPU build lacks
  say "installing the other packages of envs/pins.txt"
  install --no-deps -r /dev/stdin <<<"$(pins build core run ingest cases bench dev closure)"
  install_mpi
}

install_mpi() {
  if [[ ${KILONODE_MPI:-mpich} == mpich ]]; then
    install --no-deps -r /dev/stdin <<<"$(pins mpi)"
  else
    say "compiling $(pin mpi4py) with $(command -v mpicc)"
    install --no-deps -r /dev/stdin <<<"$(pins site)"
    # pip's cache knows nothing of MPI and would bring back one compiled against another
    CFLAGS="-g0 ${CFLAGS:-}" MPICC=$(command -v mpicc) install --no-deps --no-binary=mpi4py --no-cache-dir "$(pin mpi4py)"
  fi
}

# smoke_test WHEEL: the import order is that of kilonode.comm. One rank, no launcher.
smoke_test() {
  timeout 300 "$VENV/bin/python" - <<'PY' || die "Horovod does not work here, see above; if $1 came from another" \
    "system, remove its folder or set KILONODE_CACHE. Some login nodes forbid MPI: run make env in an allocation"
from mpi4py import MPI
import torch
import horovod.torch as hvd

hvd.init()
assert hvd.mpi_built(), "Horovod was built without MPI"
assert hvd.mpi_threads_supported(), "MPI was not started with MPI_THREAD_MULTIPLE"
assert hvd.allreduce(torch.ones(2), op=hvd.Sum).tolist() == [hvd.size()] * 2, "a sum over the ranks is wrong"
MPI.COMM_WORLD.Barrier()
hvd.shutdown()
PY
}

set_up() {
  local facts wheel
  facts=$(find_python)
  preflight "${facts#* }"
  say "making $VENV with Python $facts"
  rm -f -- "$STAMP"
  "${facts#* }" -m venv --clear "$VENV" || die "could not make $PWD/$VENV, see above"
  install_packages
  wheel=$(horovod_wheel "$VENV")
  say "installing $(basename -- "$wheel") and checking it"
  install --no-deps --force-reinstall "$wheel"
  pip check >/dev/null || { pip check >&2 || true; die "the pins contradict each other, see above"; }
  smoke_test "$wheel"
  say "compiling bytecode"   # now and on all cores, not by a thousand nodes at their first import
  "$VENV/bin/python" -m compileall -qq -j 0 -x '/tests/|/testing/_internal/' "$VENV/lib" >/dev/null || true
  stamp "$facts" >"$STAMP.new"
  mv -f -- "$STAMP.new" "$STAMP"
}

# install_kilonode: editable, again only when pyproject.toml has changed
install_kilonode() {
  local made=$VENV/pyproject.toml
  if [[ ! -x $VENV/bin/kilonode ]] || ! cmp -s pyproject.toml "$made"; then
    say "installing kilonode from this checkout"
    install --no-deps --no-build-isolation -e .
    rm -rf src/kilonode.egg-info   # setuptools' scratch; the metadata is in .venv
    cp pyproject.toml "$made"
  fi
}

main() {
  clean_environment
  if ! is_current; then
    lock
    if ! is_current; then
      set_up
    fi
  fi
  install_kilonode
  ((SECONDS < 2)) || say "ready: $VENV"
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  main
fi
