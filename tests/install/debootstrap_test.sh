#!/bin/bash
# Runs ./dev in a bare Debian 12 made for it, and looks whether a server was started or enabled.
#
#   tests/install/debootstrap_test.sh [--keep] [COMMAND [ARGUMENT...]]     default: build
#
# COMMAND is one of ./dev's. The clone is of HEAD: what is not committed is not tested. Needs root,
# debootstrap and a Debian mirror; takes the host's mirror and proxy. Everything happens in a mount
# and PID namespace of its own, so that no process and no mount outlives it; --keep keeps the roots.
#
# The roots' init is made to look as if it ran (runlevel 5), because that is when Debian's packages
# start their servers. The look has negative controls: a plain apt-get install in a twin root, and
# an installation killed with SIGKILL, must each be found.
set -euo pipefail

here=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")
repo=$(git -C "$here" rev-parse --show-toplevel)
server=prometheus-node-exporter
failures=0

say() { printf '%s\n' "$*" >&2; }
fail() {
  say "FAILED: $*"
  failures=$((failures + 1))
}

if [[ ${FIREDRILL_IN_NAMESPACE:-} != "$PPID-"* ]]; then
  ((EUID == 0)) || { say "$0: needs root"; exit 2; }
  command -v debootstrap >/dev/null || { say "$0: needs debootstrap (apt-get install debootstrap)"; exit 2; }
  # Inside, this shell's parent is outside the namespace and has pid 0.
  FIREDRILL_IN_NAMESPACE="0-$$" exec unshare --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi

keep=no
if [[ ${1:-} == --keep ]]; then
  keep=yes
  shift
fi
(($#)) || set -- build

work=$(mktemp -d -t firedrill-install.XXXXXX)
chmod 755 "$work"
leave() {
  local mounted
  trap '' INT TERM
  # The shell is the namespace's init: whatever still runs in here ends with it.
  while read -r mounted; do umount -l -- "$mounted" || true; done \
    < <(awk -v work="$work/" 'index($2, work) == 1 { print $2 }' /proc/self/mounts | tac)
  if [[ $keep == yes ]]; then
    say "kept $work"
  else
    rm -rf --one-file-system -- "$work"
  fi
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

in_root() {
  local root=$1
  shift
  env -i HOME=/root TERM="${TERM:-dumb}" PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    ${http_proxy:+http_proxy="$http_proxy"} ${https_proxy:+https_proxy="$https_proxy"} \
    chroot "$root" "$@"
}

mount_in() {
  mount -t proc proc "$1/proc"
  mount --bind /sys "$1/sys"
  mount --rbind /dev "$1/dev"
  mount --bind "$work/debs" "$1/var/cache/apt/archives"
}

make_base() {
  local root=$1 mirror
  # shellcheck disable=SC2016  # apt-get expands it, not the shell
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
    'Codename: bookworm' | head -n 1)
  mirror=${mirror:-http://deb.debian.org/debian/}
  debootstrap --variant=minbase --include=systemd,systemd-sysv bookworm "$root" "$mirror" \
    >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log"; exit 1; }
  printf 'deb %s bookworm main\n' "$mirror" >"$root/etc/apt/sources.list"
  apt-config dump | grep -E '^Acquire::.*Proxy' >"$root/etc/apt/apt.conf.d/90host-proxy" || true
  cp --dereference /etc/resolv.conf "$root/etc/resolv.conf"
  rm -f "$root/usr/sbin/policy-rc.d" "$root/sbin/runlevel"
  printf '#!/bin/sh\necho N 5\n' >"$root/sbin/runlevel"
  chmod 755 "$root/sbin/runlevel"
}

# Everything that starts with the machine, except in early boot, where no server starts.
links_of() {
  {
    find "$1/etc/systemd/system" -type l ! -path '*/sysinit.target.wants/*' -printf '%P\n'
    find "$1"/etc/rc[2345].d -name 'S*' -printf '%P\n'
  } | sort
}

pids_in() {
  local pid
  for pid in /proc/[0-9]*; do
    if [[ $(readlink "$pid/root" 2>/dev/null) == "$1" ]]; then echo "${pid#/proc/}"; fi
  done
}

# Prints what is wrong with a root, one finding a line; nothing when all is well.
look() {
  local root=$1 pid
  for pid in $(pids_in "$root"); do
    echo "running: $pid $(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-120)"
  done
  links_of "$root" | comm -13 "$work/links" - | sed 's/^/enabled: /'
  find "$root/etc/postgresql" -mindepth 2 -maxdepth 2 -printf 'cluster: %P\n' 2>/dev/null || true
  find "$root/var/lib/firedrill-packages" "$root/usr/sbin/policy-rc.d.before-firedrill" \
    "$root/etc/postgresql-common/createcluster.d/" -maxdepth 1 ! -type d \
    -printf 'left behind: %p\n' 2>/dev/null || true
  if grep -qs Firedrill "$root/usr/sbin/policy-rc.d"; then echo "left behind: policy-rc.d"; fi
}

expect_clean() {
  local found
  found=$(look "$1")
  if [[ -n $found ]]; then
    fail "after $2:"
    printf '%s\n' "$found" | sed 's/^/    /' >&2
  else
    say "ok: after $2 nothing runs, nothing is enabled, nothing is left behind"
  fi
}

expect_found() {
  local found
  found=$(look "$1")
  if grep -qE "$2" <<<"$found"; then
    say "ok: the look finds '$(grep -E -m 1 "$2" <<<"$found" | cut -c 1-70)' after $3"
  else
    fail "the look is blind: no '$2' after $3"
    printf '%s\n' "$found" | sed 's/^/    /' >&2
  fi
}

wait_until() {
  local deadline=$((SECONDS + 120))
  until "$@"; do
    ((SECONDS < deadline)) || { fail "waited 120 s in vain for: $*"; return 1; }
    sleep 0.05
  done
}

# Starts packages/install for one server in a process group of its own; sets $installer.
start_install() {
  rm -f "$1/var/log/firedrill-packages.log"
  # A background child of a script ignores SIGINT unless told otherwise.
  env --default-signal=INT setsid env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot "$1" /root/firedrill/packages/install "$server" >"$work/install.log" 2>&1 &
  installer=$!
}

started=$SECONDS
mkdir "$work/debs"
make_base "$work/base"
links_of "$work/base" >"$work/links"
say "made a bare Debian 12 in $((SECONDS - started)) s"

# ---- the look, and what a plain installation does ------------------------------------------------

twin=$work/twin
cp -a "$work/base" "$twin"
mount_in "$twin"
expect_clean "$twin" "debootstrap"
in_root "$twin" sh -c "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -qy install \
  --no-install-recommends $server postgresql-15" >"$work/plain.log" 2>&1 || fail "plain apt-get"
expect_found "$twin" "^running: .*$server" "a plain apt-get install"
expect_found "$twin" "^enabled: .*\.wants/$server" "a plain apt-get install"
expect_found "$twin" "^enabled: S.*postgresql" "a plain apt-get install"
expect_found "$twin" "^cluster: 15/main" "a plain apt-get install"
for pid in $(pids_in "$twin"); do kill -KILL "$pid"; done

# ---- interruptions -------------------------------------------------------------------------------

root=$work/root
cp -a "$work/base" "$root"
mount_in "$root"
git -c safe.directory='*' clone -q --no-hardlinks "$repo" "$root/root/firedrill"
# A policy of the machine's own, which allows what is enabled, must be there again afterwards.
# shellcheck disable=SC2016  # for the shell in the root
printf '#!/bin/sh\n# of this machine; (start) means that it is disabled\n%s\n' \
  'case $2 in \(*) exit 101 ;; *) exit 104 ;; esac' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cp -a "$root/usr/sbin/policy-rc.d" "$work/policy-before"
same_policy() {
  if ! cmp -s "$work/policy-before" "$root/usr/sbin/policy-rc.d" ||
    [[ $(stat -c %a:%u "$root/usr/sbin/policy-rc.d") != 755:0 ]]; then
    fail "after $1 the machine's own policy-rc.d is not back"
  fi
}

installer=
start_install "$root"
wait_until grep -qs Firedrill "$root/usr/sbin/policy-rc.d"
sleep 0.2
kill -INT -- "-$installer"
code=0
wait "$installer" || code=$?
[[ $code == 130 ]] || fail "Ctrl-C while installing: exit $code, not 130"
expect_clean "$root" "Ctrl-C while installing"
same_policy "Ctrl-C while installing"

start_install "$root"
wait_until grep -qsE "^(Setting up|Unpacking) $server" "$root/var/log/firedrill-packages.log"
kill -KILL -- "-$installer"
wait "$installer" || true
expect_found "$root" "^left behind: policy-rc.d" "SIGKILL while installing"

# ---- the command itself --------------------------------------------------------------------------

started=$SECONDS
say "running ./dev $* --yes in the root ..."
code=0
in_root "$root" /root/firedrill/dev "$@" --yes </dev/null >"$work/dev.log" 2>&1 || code=$?
sed 's/^/    /' "$work/dev.log" >&2
say "./dev $* took $((SECONDS - started)) s"
[[ $code == 0 ]] || fail "./dev $*: exit $code"
grep -q "an earlier installation was killed" "$work/dev.log" || fail "did not say what it put back"
expect_clean "$root" "./dev $*"
same_policy "./dev $*"

# What was disabled stays so when a package is configured again, as an upgrade does.
if in_root "$root" dpkg-query -W "$server" >/dev/null 2>&1; then
  in_root "$root" env DEBIAN_FRONTEND=noninteractive apt-get -qy install --reinstall "$server" \
    >"$work/again.log" 2>&1 || fail "reinstalling $server: $(tail -n 3 "$work/again.log")"
fi
expect_clean "$root" "reinstalling a server"

# A second time there is nothing to install, so apt-get is not run at all.
before=$(stat -c %Y "$root/var/log/firedrill-packages.log")
in_root "$root" /root/firedrill/dev packages </dev/null >"$work/second.log" 2>&1 ||
  say "note: ./dev packages wants more than ./dev $* does"
[[ $(stat -c %Y "$root/var/log/firedrill-packages.log") == "$before" ]] || fail "ran apt-get again"

if ((failures)); then
  say "$failures checks failed"
  exit 1
fi
say "all checks passed"
