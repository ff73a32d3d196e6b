#!/bin/sh
# The first process of the outer machine, which is emulated: brings up its KVM and runs what the test put into /vmm.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
while read m; do insmod "/modules/$m.ko" || echo "OUTER cannot load $m"; done </modules/order
echo 1 >/proc/sys/kernel/printk
mount -t ext4 /dev/vda /vmm || echo "OUTER has no /vmm"
echo "OUTER up $(cut -d' ' -f1 /proc/uptime)"
cd /vmm && . ./go
cd /
echo "OUTER done"
umount /vmm; sync; poweroff -f
