#!/bin/busybox sh
# The first process of the machine that vm_test.py starts: the host's files, which it cannot change, beneath a layer in
# memory; control groups of version 2 with every controller; then the programs under test, each with its exit code.
# From the kernel's command line: REPO, TESTS (their folder), FIREDRILL_BIN.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8

if [ -d /modules ]; then
  busybox mkdir -p /proc /dev /host /layer /root
  busybox mount -t devtmpfs none /dev
  # In the order of their names, which is that in which they need each other.
  for module in /modules/*; do busybox insmod "$module"; done
  busybox mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,cache=loose,ro host /host
  busybox mount -t tmpfs none /layer
  busybox mkdir /layer/upper /layer/work
  busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work none /root &&
    exec busybox switch_root /root /bin/sh "$REPO/tests/vm/init.sh"
  busybox poweroff -f
fi

groups=/sys/fs/cgroup
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t cgroup2 none $groups
mount -t tmpfs none /run
mount -t tmpfs none /var/lib
ip link set lo up
echo "kernel $(uname -r)"

seen() {
  echo "begin $1"
  shift
  timeout 2400 "$@" 2>&1
  echo "exit $?"
}
tests() {
  # Without a database, which takes an emulated processor too long to start.
  seen "groups $1" "$TESTS/injector_os_test" --gtest_filter='*Group*'
  seen "fault $1" "$TESTS/injector_faults_test" --gtest_filter='ThrottleCpuTest.*-*SlowsADatabase*'
  seen "contract $1" "$TESTS/contract_test" --gtest_filter='*/throttleCpu'
  seen "crashes $1" "$TESTS/injector_test" --gtest_filter='Host/*'
}
mkdir -p $groups/system.slice/tests.service
echo '+cpu +memory +pids' >$groups/cgroup.subtree_control
echo '+cpu +memory +pids' >$groups/system.slice/cgroup.subtree_control
tests root
echo $$ >$groups/system.slice/tests.service/cgroup.procs
tests leaf
echo $$ >$groups/cgroup.procs
rmdir $groups/system.slice/tests.service $groups/system.slice
seen hand /usr/bin/python3 -B "$REPO/tests/vm/throttle_cpu.py"
echo "left $(find $groups -name 'firedrill-*' -o -name 'fdtest-*' | wc -l)"
busybox poweroff -f
