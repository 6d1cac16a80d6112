#!/usr/bin/env bash
# Builds the Horovod wheel once per machine, or takes it from the cache, and prints its path.
#
#   envs/horovod.sh VENV        a virtual environment that already has torch, MPI and the build tools
#
# The cache lies outside the checkout: ${KILONODE_CACHE:-${XDG_CACHE_HOME:-~/.cache}/kilonode}/horovod-<key>/
# where the key names all that the compiled code depends on. envs/bootstrap.sh sources this file.
set -euo pipefail
shopt -s inherit_errexit   # else a failure inside $( ) would go unnoticed

PINS=$(dirname -- "${BASH_SOURCE[0]}")/pins.txt

# say, die: everything for people goes to stderr, so that a function's stdout is its value. ----------------------------
say() { printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }
die() { printf 'kilonode: %s\n' "$*" >&2; exit 2; }

# pins SECTION...: the requirements of these sections of pins.txt, without comments
pins() {
  awk -v want=" $* " '/^# \[/ { name = substr($2, 2, length($2) - 2); next }
                      /^[^#]/ && index(want, " " name " ") { print $1 }' "$PINS"
}

# pin NAME: its requirement, NAME==VERSION
pin() { awk -v start="$1==" 'index($1, start) == 1 { print $1 }' "$PINS"; }

cache_root() {
  if [[ -n ${KILONODE_CACHE:-} ]]; then
    printf '%s\n' "$KILONODE_CACHE"
  elif [[ -n ${XDG_CACHE_HOME:-${HOME:-}} ]]; then
    printf '%s/kilonode\n' "${XDG_CACHE_HOME:-$HOME/.cache}"
  else
    die "no place for the Horovod wheel: neither HOME nor KILONODE_CACHE is set; set KILONODE_CACHE to a folder"
  fi
}

# cache_key HOROVOD TORCH MPI PYTHON ARCH: two builds may share a wheel only if all five agree.
# A GPU build is another wheel too.
cache_key() {
  printf '%s-torch%s-%s-%s-%s%s\n' "$1" "$2" "$3" "$4" "$5" "${HOROVOD_GPU_OPERATIONS:+-$HOROVOD_GPU_OPERATIONS}"
}

# describe PYTHON: "TORCH MPI PYTHON ARCH" of that environment, one word each. The MPI is asked, not assumed:
# with a site MPI only the library itself knows its version. Asking needs no MPI_Init.
describe() {
  "$1" - <<'PY'
import platform, re, sys
from importlib.metadata import version
import mpi4py
mpi4py.rc.initialize = False
from mpi4py import MPI
library = MPI.Get_library_version().splitlines()[0].replace("Version", "")
word = re.sub(r"[^A-Za-z0-9.]+", "-", library.split(",")[0]).strip("-\0")
print(version("torch"), word, "cp%d%d" % sys.version_info[:2], platform.machine())
PY
}

# need_cache: the cache exists and can be written
need_cache() {
  local cache
  cache=$(cache_root)
  mkdir -p -- "$cache" 2>/dev/null && [[ -w $cache ]] ||
    die "cannot write to the cache $cache; set KILONODE_CACHE to a folder that can be written"
}

# need_space DIR MB WHAT: a full disk found now costs nothing, found by pip or g++ it costs minutes and reads badly
need_space() {
  local free
  free=$(df -Pk -- "$1" | awk 'NR == 2 { print int($4 / 1024) }')
  ((free >= $2)) || die "$3 needs $2 MB free, got $free MB in $1; free some space or move that folder"
}

# check_tools PYTHON: everything the build needs and pip cannot bring, before anything is downloaded or compiled
check_tools() {
  local cxx=${CXX:-g++} include
  command -v -- "${cxx%% *}" >/dev/null ||
    die "building Horovod needs a C++ compiler, got no ${cxx%% *} on PATH; apt-get install g++, or set CXX"
  command -v make >/dev/null ||
    die "building Horovod needs make, got none on PATH; apt-get install make"
  include=$("$1" -c 'import sysconfig; print(sysconfig.get_path("include"))')
  [[ -e $include/Python.h ]] ||
    die "building Horovod needs Python.h, got none in $include; apt-get install $(basename -- "$include")-dev"
  if [[ ${KILONODE_MPI:-mpich} == site ]]; then
    command -v mpicc >/dev/null ||
      die "KILONODE_MPI=site needs mpicc on PATH, got none; load the site's MPI module, or unset KILONODE_MPI"
  fi
  # torch's headers are C++20; g++ 9 and older do not know the flag
  $cxx -std=c++20 -x c++ -fsyntax-only - <<<'int main() {}' 2>/dev/null ||
    die "building Horovod needs a compiler that knows -std=c++20 (GCC 10 or newer), got $($cxx --version | head -n 1)"
}

# wheel_in DIR: the path of the finished wheel in a cache folder; fails if there is none or it is damaged
wheel_in() {
  [[ -f $1/SHA256SUMS ]] && (cd -- "$1" && sha256sum --check --status SHA256SUMS) && printf '%s\n' "$1"/horovod-*.whl
}

# fetch_source PYTHON DIR: the sdist into DIR/source; pip refuses one with another sha256
fetch_source() {
  local sha
  sha=$(awk '$1 ~ /^horovod==/ && match($0, /sha256:[0-9a-f]+/) { print substr($0, RSTART, RLENGTH) }' "$PINS")
  "$1" -m pip download -qq --disable-pip-version-check --no-deps --no-build-isolation --no-binary=:all: \
    --require-hashes -d "$2" -r /dev/stdin <<<"$(pin horovod) --hash=$sha" ||
    die "pip could not fetch the source of $(pin horovod), its message is above; is PIP_INDEX_URL right?"
  mkdir -- "$2/source"
  tar -xf "$2"/horovod-*.tar.gz -C "$2/source" --strip-components=1
}

# patch_source DIR: all that is changed in the sources
patch_source() {
  # torch >= 2.1 needs C++17, torch 2.13 needs C++20; drop when a Horovod release follows (horovod PR 3998)
  sed -i 's/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD 20)/' "$1/CMakeLists.txt" "$1/horovod/torch/CMakeLists.txt"
  # Debug information is a third of the compile time and most of the wheel
  sed -i 's/string(REPLACE "-O2" "-O3" CMAKE_CXX/string(REPLACE "-O2 -g" "-O3" CMAKE_CXX/' "$1/CMakeLists.txt"
  # The wheel outlives the environment it was built in: it looks for libmpi and torch in the one it is installed in,
  # and LD_LIBRARY_PATH comes first (new-dtags), so that a site's MPI with the same ABI can take its place.
  sed -i '/^project(horovod/r /dev/stdin' "$1/CMakeLists.txt" <<'CMAKE'
set(CMAKE_SKIP_BUILD_RPATH ON)
string(APPEND CMAKE_SHARED_LINKER_FLAGS
       " -Wl,--enable-new-dtags '-Wl,-rpath,$ORIGIN/../../../..:$ORIGIN/../../torch/lib'")
CMAKE
}

# compile VENV DIR LOG: DIR/source -> DIR/wheel/horovod-*.whl
compile() {
  local jobs
  jobs=$(nproc)
  ((jobs <= 8)) || jobs=8   # login nodes are shared, and a compiler process takes about 1 GB
  # Through a link, because CMake's FindMPI splits paths at spaces and a checkout may have one.
  ln -s -- "$(cd -- "$1" && pwd)" "$2/venv"
  # Gloo is Horovod's way without MPI (elastic jobs), not used here. MAKEFLAGS replaces those of an outer make.
  # No pip cache: it is keyed by the sdist alone and would bring back a wheel for another torch or MPI.
  env -u CMAKE_GENERATOR -u MAKELEVEL PATH="$2/venv/bin:$PATH" MAKEFLAGS="-j$jobs" HOROVOD_WITH_MPI=1 \
    HOROVOD_WITHOUT_GLOO=1 HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 \
    "$2/venv/bin/python" -m pip wheel -v --disable-pip-version-check --no-cache-dir --no-build-isolation --no-deps \
    -w "$2/wheel" "$2/source" >"$3" 2>&1
}

# show_error LOG: the compiler's or CMake's own words, which pip buries under a traceback
show_error() {
  { grep -nE -A 2 '(^|[^a-z_])(fatal )?error:|CMake Error|undefined reference|No space left' "$1" || tail -n 15 -- "$1"; } |
    tail -n 15 >&2
}

# build VENV CACHE KEY: compiles in a temporary folder, then moves the finished folder into place in one step, so
# that an interrupted build leaves nothing behind and of two concurrent builds the first one wins.
build() (
  local cache=$2 name=horovod-$3 tmp staged
  tmp=$(mktemp -d "${TMPDIR:-/tmp}/kilonode-horovod.XXXXXX")
  staged=$(mktemp -d "$cache/.$name.XXXXXX")
  trap 'rm -rf -- "$tmp" "$staged"' EXIT
  trap 'exit 130' HUP INT TERM   # a subshell that a signal ends would skip its EXIT trap
  need_space "$tmp" 700 "building Horovod"
  fetch_source "$1/bin/python" "$tmp"
  patch_source "$tmp/source"
  if ! compile "$1" "$tmp" "$staged/build.log"; then
    mv -f -- "$staged/build.log" "$cache/$name.log"
    show_error "$cache/$name.log"
    die "Horovod did not compile; the compiler's last errors are above, the whole log is $cache/$name.log"
  fi
  cp -- "$tmp"/wheel/horovod-*.whl "$staged/"
  (cd -- "$staged" && sha256sum ./*.whl >SHA256SUMS)
  chmod 755 "$staged"
  mv -T -- "$staged" "$cache/$name" 2>/dev/null || wheel_in "$cache/$name" >/dev/null ||
    die "cannot move the Horovod wheel to $cache/$name; remove that folder and run again"
)

# horovod_wheel VENV: prints the path of the wheel that fits this environment
horovod_wheel() {
  local cache key torch mpi python arch version
  cache=$(cache_root)
  version=$(pin horovod)
  read -r torch mpi python arch <<<"$(describe "$1/bin/python")"
  key=$(cache_key "${version#*==}" "$torch" "$mpi" "$python" "$arch")
  if ! wheel_in "$cache/horovod-$key"; then
    check_tools "$1/bin/python"
    need_cache
    rm -rf -- "$cache/horovod-$key"   # damaged, or not there
    say "building Horovod ${version#*==} against ${mpi//-/ } (about 2.5 min on 2 cores, once) ..."
    build "$1" "$cache" "$key"
    wheel_in "$cache/horovod-$key"
  fi
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  [[ $# == 1 ]] || die "usage: envs/horovod.sh VENV"
  horovod_wheel "$1"
fi
