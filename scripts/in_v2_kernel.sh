#!/usr/bin/env bash
# Runs a command of this checkout on Debian's own kernel with control groups v2 alone and every controller, in an emulator.
# usage: scripts/in_v2_kernel.sh COMMAND…     (its exit code is the command's; KEEP_SECONDS, default 1500, bounds the whole)
#
# With FIRST_PROCESS=systemd the machine's first process is this host's systemd, with a system bus and nothing else of the
# host's units, and the command is a service of it; else it is a shell. KERNEL_ARGUMENTS are further ones of its kernel.
#
# The machine sees this host's files read only, under a layer in its memory: the checkout and its environment are used as
# they stand and nothing here is changed. It has no network but its own loopback. Emulated, it is some 30 times slower.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD

scripts/debian_packages.sh qemu-system-x86 cpio kmod busybox-static apparmor xfsprogs
first_process=${FIRST_PROCESS:-shell}
[ "$first_process" = shell ] || scripts/debian_packages.sh systemd dbus
machine=.build/v2-kernel
mkdir -p $machine
if [ ! -e $machine/vmlinuz ]; then
    package=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image/ { print $2; exit }')
    (cd $machine && apt-get download "$package" && dpkg-deb -x "$package"_*.deb files && rm "$package"_*.deb)
    cp $machine/files/boot/vmlinuz-* $machine/vmlinuz
fi
release=$(ls $machine/files/lib/modules)
depmod -b $machine/files "$release"

root=$machine/initramfs
rm -rf $root
mkdir -p $root/{bin,proc,sys,dev,modules,host,memory,root}
cp "$(command -v busybox)" $root/bin/busybox
# In the order in which they need each other; what the kernel has built in stands in no line.
for module in virtio_pci 9pnet_virtio 9p overlay erofs loop ext4 quota_v2 xfs veth bridge dummy nf_tables nft_chain_nat nft_ct nft_masq nft_nat nft_socket nft_fib_inet nfsv4 nfsd; do
    modprobe -d $machine/files -S "$release" --show-depends "$module" 2>/dev/null | awk '$1 == "insmod" { print $2 }'
done | awk '!seen[$0]++' >$machine/modules
while read -r module; do
    cp "$module" $root/modules/
    basename "$module"
done <$machine/modules >$root/modules/order

printf '%q ' "$@" >$root/command
cat >$root/init <<INIT
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do insmod /modules/\$module; done </modules/order
mount -t 9p -o trans=virtio,version=9p2000.L,ro,cache=loose,msize=524288 host /host
mount -t tmpfs -o size=75% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root
for place in proc sys dev; do mount --move /\$place /root/\$place; done
mount -t cgroup2 cgroup2 /root/sys/fs/cgroup
mount -t securityfs securityfs /root/sys/kernel/security
# Only a kernel that was told to have it has it; no policy is loaded.
if grep -q selinuxfs /root/proc/filesystems; then mount -t selinuxfs selinuxfs /root/sys/fs/selinux; fi
mount -t devpts devpts /root/dev/pts 2>/dev/null || { mkdir -p /root/dev/pts; mount -t devpts devpts /root/dev/pts; }
mkdir -p /root/dev/shm
mkdir /checkout
mount -o bind "/root$checkout" /checkout
for place in tmp run dev/shm; do mount -t tmpfs tmpfs /root/\$place; done
# A checkout below /tmp has just been covered.
[ -d "/root$checkout" ] || { mkdir -p "/root$checkout" && mount -o bind /checkout "/root$checkout"; }
ip link set lo up
cp /command /root/run/command
mkdir -p /root/dev/net
mknod /root/dev/net/tun c 10 200
# The root of the mount namespace is the machine's, as after any boot: a process that is chrooted may make no user namespace.
cd /root
mount --move . /
if [ $first_process = systemd ]; then
    mkdir -p run/systemd/system
    for unit in dbus.socket dbus.service fluyt-command.service; do cp /\$unit run/systemd/system/; done
    exec chroot . /lib/systemd/systemd --unit=fluyt-command.service --show-status=no --log-target=console --log-level=warning
fi
# Processes stand in a group of their own: a group that gives controllers on may hold none.
mkdir sys/fs/cgroup/init
echo 1 >sys/fs/cgroup/init/cgroup.procs
exec chroot . /bin/bash -c '
    echo \$\$ >/sys/fs/cgroup/init/cgroup.procs
    for controller in \$(cat /sys/fs/cgroup/cgroup.controllers); do echo +\$controller >/sys/fs/cgroup/cgroup.subtree_control; done
    cd "$checkout"
    export HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    bash /run/command </dev/null
    echo "exit code of the command: \$?"
    echo o >/proc/sysrq-trigger
    while :; do :; done
'
INIT
chmod +x $root/init
# The bus has its usual names, by which systemd knows it; nothing needs the rest of the host's units.
cat >$root/dbus.socket <<'UNIT'
[Unit]
DefaultDependencies=no
[Socket]
ListenStream=/run/dbus/system_bus_socket
UNIT
cat >$root/dbus.service <<'UNIT'
[Unit]
DefaultDependencies=no
Requires=dbus.socket
After=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --system --address=systemd: --nofork --nopidfile --systemd-activation
UNIT
cat >$root/fluyt-command.service <<UNIT
[Unit]
DefaultDependencies=no
# Not Requires: the command is not to end with a bus that it restarts.
Wants=dbus.service
After=dbus.service
[Service]
Type=oneshot
TimeoutStartSec=infinity
TasksMax=infinity
WorkingDirectory=$checkout
Environment=HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
StandardInput=null
StandardOutput=file:/dev/console
StandardError=file:/dev/console
ExecStart=/bin/bash -c 'bash /run/command; code=\$\$?; echo; echo "exit code of the command: \$\$code"; echo o >/proc/sysrq-trigger'
UNIT
(cd $root && find . | cpio --quiet -o -H newc | gzip -1) >$machine/initramfs.gz

log=$machine/console.log
timeout "${KEEP_SECONDS:-1500}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -machine q35 -m 4096 -smp 2 -nographic -no-reboot \
    -virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap" \
    -kernel $machine/vmlinuz -initrd $machine/initramfs.gz \
    -append "console=ttyS0 quiet panic=-1 cgroup_no_v1=all systemd.show_status=no ${KERNEL_ARGUMENTS:-}" </dev/null 2>&1 | tee $log
code=$(tr -d '\r' <$log | sed -n 's/^exit code of the command: //p' | tail -1)
exit "${code:-1}"
