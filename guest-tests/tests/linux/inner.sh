#!/bin/sh
# The first process of the inner machine, which cafevm runs. The command line says what to do (do=) and how to end
# (end=); the test reads what is printed here, and afterwards what is on the disks.
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t tmpfs tmp /tmp
exec </dev/console >/dev/console 2>&1
word() { sed -n "s/.* $1=\([^ ]*\).*/\1/p;s/^$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
up() { echo "INNER $* at $(cut -d' ' -f1 /proc/uptime)"; }
load() { grep -qx "$1" /modules/order && insmod "/modules/$1.ko"; }
up init

disks() {
  for m in virtio_ring virtio virtio_mmio virtio_blk; do load $m; done
  n=0; while [ ! -b /dev/vdb ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
  echo "INNER cpus $(nproc) vda $(cat /sys/block/vda/size) $(cat /sys/block/vda/serial) vdb $(cat /sys/block/vdb/size) $(cat /sys/block/vdb/serial)"
  grep -E 'virtio|ttyS0' /proc/interrupts
  for m in rng-core virtio-rng; do load $m; done
  echo "INNER hwrng $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | wc -c) bytes"
  [ "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum)" != "$(dd if=/dev/hwrng bs=64 count=1 2>/dev/null | md5sum)" ] && echo "INNER random"
  # The file system made outside: what is in it is read, and as much is written back.
  mount -t ext4 /dev/vda /mnt || { echo "INNER has no disk"; return; }
  echo "INNER read $(cat /mnt/token) $(md5sum </mnt/in | cut -d' ' -f1)"
  dd if=/dev/urandom of=/mnt/out bs=64k count=32 2>/dev/null
  md5sum </mnt/out | cut -d' ' -f1 >/mnt/out.md5
  # Past the page cache: what was written is what is read again.
  dd if=/mnt/out of=/mnt/direct bs=64k oflag=direct 2>/dev/null
  echo 3 >/proc/sys/vm/drop_caches
  echo "INNER wrote $(dd if=/mnt/direct bs=16k iflag=direct 2>/dev/null | md5sum | cut -d' ' -f1) of $(cat /mnt/out.md5)"
  umount /mnt && up unmounted
  # The sparse image: written full of something, then given back.
  mount -t ext4 /dev/vdb /mnt || { echo "INNER has no second disk"; return; }
  echo "INNER discard granularity $(cat /sys/block/vdb/queue/discard_granularity) max $(cat /sys/block/vdb/queue/discard_max_bytes)"
  dd if=/dev/urandom of=/mnt/ballast bs=1M count=8 2>/dev/null; sync
  echo "INNER ballast"; rm /mnt/ballast; sync
  fstrim -v /mnt
  echo kept >/mnt/kept
  umount /mnt && up trimmed
}

# Disks of each kind: the same bytes onto each, at another place; read again when the cache is empty.
kinds() {
  for m in virtio_ring virtio virtio_mmio virtio_blk; do load $m; done
  n=0; while [ ! -b /dev/vde ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done
  at=0
  for d in vda vdb vdc vdd vde; do
    at=$((at+1))
    dd if=/bin/busybox of=/dev/$d bs=64k seek=$at conv=fsync 2>/dev/null || echo "INNER cannot write $d"
  done
  echo 3 >/proc/sys/vm/drop_caches
  at=0
  for d in vda vdb vdc vdd vde; do
    at=$((at+1))
    echo "INNER $(cat /sys/block/$d/serial) $(dd if=/dev/$d bs=64k skip=$at 2>/dev/null | head -c $(wc -c </bin/busybox) | md5sum | cut -d' ' -f1)"
  done
}

# A text at the top of the screen, without a cursor that blinks.
show() { printf '\033[2J\033[H\033[?25l%s' "$1" >/dev/tty0; echo "INNER shows $1"; }

# The drivers of a screen and a keyboard. File 3 has what is typed from then on: Linux keeps no events for later readers.
seat() {
  while read m; do load "$m"; done </modules/order
  n=0; while [ ! -e /dev/fb0 ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n+1)); done
  for e in /dev/input/event*; do
    grep -q "Virtio Keyboard" /sys/class/input/$(basename $e)/device/name && keyboard=$e
  done
  exec 3<"$keyboard"
}

desk() {
  seat
  sed -n 's/^N: Name=/INNER input /p' /proc/bus/input/devices
  # The keys, as Linux has them: QEMU's keyboard has the same.
  sed -n '/Virtio Keyboard/,/^$/s/^B: KEY=/INNER keys /p' /proc/bus/input/devices
  echo "INNER framebuffer $(cat /sys/class/graphics/fb0/virtual_size) $(cat /sys/class/graphics/fb0/name)"
  echo "INNER display $(cat /sys/class/drm/card0-Virtual-1/status) $(head -n 1 /sys/class/drm/card0-Virtual-1/modes)"
  echo "INNER edid $(wc -c </sys/class/drm/card0-Virtual-1/edid)"
  show "$(word text)"
  # Off again: while Caps Lock is on, a viewer types small letters with Shift.
  for led in /sys/class/leds/*capslock; do
    echo 1 >$led/brightness; echo "INNER led $(cat $led/brightness)"; echo 0 >$led/brightness
  done
  # What is typed: an event a line, in hexadecimal.
  echo "INNER types"
  dd bs=24 count=$(word events) <&3 2>/dev/null | hexdump -v -e '24/1 "%02x" "\n"' | sed 's/^/INNER typed /'
}

# One text, and after a key another one, until the next key.
screen() {
  seat
  for text in $(word other) $(word text); do
    show $text
    dd bs=24 count=4 <&3 >/dev/null 2>&1
  done
}

shell() {
  echo "INNER shell"
  setsid cttyhack sh -l
  up left
}

case "$(word do)" in
  disks) disks;;
  kinds) kinds;;
  shell) shell;;
  desk) desk;;
  screen) screen;;
  memory) echo "INNER memory $(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)";;
  pvpanic) load pvpanic; load pvpanic-mmio;;
esac
sync
up ends
case "$(word end)" in
  reboot) reboot -f;;
  panic) echo c >/proc/sysrq-trigger;;
  exit) exit 0;;
  *) poweroff -f;;
esac
