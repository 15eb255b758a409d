#!/bin/sh
# boot.sh ROOT WORK SHARED: boots the Debian in ROOT with its own systemd as PID 1, in fresh namespaces.
#
# ROOT is only read: changes go to a layer in WORK. SHARED appears inside as /shared; its proof.sh runs
# as the last unit of the boot and writes /shared/result. The machine has a network of its own that
# consists of loopback, so that nothing in it can reach out and no port meets one of this host.
set -eu

outside() {
    # systemd wants a cgroup tree of its own: a leaf that becomes the root of its cgroup namespace.
    tree=$(mktemp -d)
    mount -t cgroup2 none "$tree"
    leaf=$tree/lodge-machine-$$
    mkdir "$leaf"
    trap 'sleep 0.2; find "$leaf" -depth -type d -exec rmdir {} \; 2>/dev/null || true; umount "$tree"; rmdir "$tree"' EXIT
    ended=0
    sh -c 'echo 0 > "$0/cgroup.procs"; exec unshare --mount --pid --fork --uts --ipc --net --cgroup --kill-child=KILL sh "$@"' \
        "$leaf" "$0" inside "$@" || ended=$?
    return $ended
}

inside() {
    root=$1 work=$2 shared=$3
    mount --make-rprivate /
    mkdir -p "$work/layer" "$work/machine"
    machine=$work/machine
    # A layer cannot lie on a layer: where the target directory is one itself, it goes to memory.
    overlay() {
        mkdir -p "$work/layer/upper" "$work/layer/work"
        mount -t overlay overlay -o "lowerdir=$root,upperdir=$work/layer/upper,workdir=$work/layer/work" "$machine"
    }
    overlay 2>/dev/null || { mount -t tmpfs tmpfs "$work/layer"; overlay; }

    mount -t proc proc "$machine/proc"
    mount -t sysfs sysfs "$machine/sys"
    mount -t cgroup2 none "$machine/sys/fs/cgroup"
    # The kernel is shared with the host: nothing in here may turn its knobs.
    mount --bind "$machine/proc/sys" "$machine/proc/sys"
    mount -o remount,ro,bind "$machine/proc/sys"
    mount -t tmpfs -o mode=755 tmpfs "$machine/dev"
    # Nodes of its own: a bound one is the host's, and systemd gives the console another mode and owner.
    for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 console:1:3; do
        IFS=: read -r name major minor <<NODE
$device
NODE
        mknod -m 666 "$machine/dev/$name" c "$major" "$minor"
    done
    mkdir "$machine/dev/pts" "$machine/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$machine/dev/pts"
    mount -t tmpfs tmpfs "$machine/dev/shm"
    ln -s pts/ptmx "$machine/dev/ptmx"
    ln -s /proc/self/fd "$machine/dev/fd"
    mount -t tmpfs -o mode=755 tmpfs "$machine/run"
    mount -t tmpfs tmpfs "$machine/tmp"
    mkdir -p "$machine/shared"
    mount --bind "$shared" "$machine/shared"

    units=$machine/etc/systemd/system
    for unit in systemd-sysctl.service systemd-modules-load.service systemd-udevd.service \
        systemd-udev-trigger.service systemd-udevd-control.socket systemd-udevd-kernel.socket \
        sys-kernel-debug.mount sys-kernel-tracing.mount dev-hugepages.mount dev-mqueue.mount; do
        ln -sf /dev/null "$units/$unit"
    done
    cat > "$units/proof.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /shared/proof.sh
StandardOutput=file:/shared/result
StandardError=file:/shared/errors
# Ends the machine, whatever came of it.
ExecStopPost=/bin/systemctl --no-block exit 0
UNIT
    # The boot is over before the proof begins: a package is installed on a machine that runs.
    cat > "$units/machine.target" <<'UNIT'
[Unit]
Requires=multi-user.target
After=multi-user.target
Wants=proof.service
UNIT
    ln -sf machine.target "$units/default.target"
    echo machine > "$machine/etc/hostname"

    mkdir -p "$machine/outside"
    cd "$machine"
    pivot_root . outside
    cd /
    umount -l /outside
    # Units that are given credentials or mounts of their own see them only below a shared root.
    mount --make-rshared /
    exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb \
        /lib/systemd/systemd --log-target=journal --show-status=no
}

if [ "$1" = inside ]; then
    shift
    inside "$@"
else
    outside "$@"
fi
