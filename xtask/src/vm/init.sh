#!/bin/busybox sh
# First process of the guest: the host's root, read-only, below a layer in memory; then $PROGRAM in it, and the end.
# The kernel speaks on ttyS0, the programme on ttyS1.
/bin/busybox --install -s /bin
export PATH=/bin
mkdir -p /proc /sys /dev /lower /upper /new
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
. /settings
stop() {
    echo "init: $1" >/dev/ttyS0
    echo o >/proc/sysrq-trigger
    sleep 60
}
while read -r module; do
    insmod "/modules/$module" || stop "cannot load $module"
done </modules/order
mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=524288,cache=loose root /lower || stop "no root"
mount -t tmpfs -o mode=755 upper /upper
mkdir /upper/files /upper/work
mount -t overlay -o lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work root /new || stop "no overlay"
for dir in proc sys dev; do
    mount --move /$dir /new/$dir
done
cd /new
# Where the host's root is a container's, this machine is none.
rm -f .dockerenv run/.containerenv
# A devtmpfs has no links; programs expect them.
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mkdir -p dev/pts dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs -o mode=1777 shm dev/shm
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
mount -t tmpfs -o mode=1777 tmp var/tmp
mount -t securityfs security sys/kernel/security
[ "$HIERARCHY" = none ] || mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p "lib/modules/$(uname -r)"
mount --bind "/new$MODULES" "lib/modules/$(uname -r)"
ip link set lo up
hostname guest
stty raw -echo <dev/ttyS1
cat >run/guest <<END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LANG=C.UTF-8 ENFORCER_PATIENCE=10
cd /
$PROGRAM </dev/null >/dev/ttyS1 2>&1
echo "@end \$?" >/dev/ttyS1
stty -F /dev/ttyS1 >/dev/null # waits until it is out
echo o >/proc/sysrq-trigger
sleep 60
END
case "$INIT" in
busybox) exec switch_root /new /bin/busybox sh /run/guest ;;
systemd)
    mkdir -p run/systemd/system
    cat >run/systemd/system/guest.service <<END
[Unit]
Requires=basic.target
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh /run/guest
TimeoutStartSec=infinity
END
    exec switch_root /new /lib/systemd/systemd --unit=guest.service --show-status=false
    ;;
esac
