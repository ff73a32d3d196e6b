//! The rules of virtio for a driver's author.

use super::rules;
use crate::observe::RuleInfo;

/// The rules that virtio devices report. Each has what the driver must do, the usual mistake, wrong and correct code.
pub(crate) const RULES: &[RuleInfo] = &[
    RuleInfo::error(
        "virtio.width",
        rules::WIDTH,
        [
            "Access registers below 0x100 with 32 bits, aligned. Access the configuration space with 8, 16 or 32 bits, aligned.",
            "A pointer to a struct of bytes, or a 64-bit store to an address register.",
            "*(volatile uint64_t *)(base + 0x80) = desc;",
            "write32(base + 0x80, desc); write32(base + 0x84, desc >> 32);",
        ],
    ),
    RuleInfo::error(
        "virtio.no-register",
        rules::NO_REGISTER,
        [
            "Access only the offsets that the specification lists.",
            "A wrong offset, or the registers of another transport (PCI).",
            "write32(base + 0x18, 0);",
            "write32(base + 0x14, 0); /* DeviceFeaturesSel */",
        ],
    ),
    RuleInfo::error(
        "virtio.direction",
        rules::DIRECTION,
        [
            "Read read-only registers, and write write-only registers.",
            "A driver that changes bits of a write-only register by reading it first.",
            "write32(QUEUE_NUM, read32(QUEUE_NUM) | 8);",
            "write32(QUEUE_NUM, 8);",
        ],
    ),
    RuleInfo::error(
        "virtio.legacy",
        rules::LEGACY,
        [
            "Use the registers of the version that the Version register reads.",
            "A driver for legacy devices (QueuePFN, GuestPageSize) on a modern one, or the other way round.",
            "write32(base + 0x40, queue >> 12); /* QueuePFN, but Version is 2 */",
            "write32(base + 0x80, queue); /* QueueDescLow; or run cafevm with --virtio-mmio version=legacy */",
        ],
    ),
    RuleInfo::error(
        "virtio.config-write",
        rules::CONFIG_WRITE,
        [
            "Write only the writable fields of the configuration space; of a block device this is writeback.",
            "A driver that stores its own state in the structure that it mapped over the configuration space.",
            "config->capacity = 0;",
            "uint64_t capacity = config->capacity;",
        ],
    ),
    RuleInfo::warning(
        "virtio.config-early",
        rules::CONFIG_EARLY,
        [
            "Write the configuration space after FEATURES_OK.",
            "writeback is switched before the features are final.",
            "config->writeback = 0; status |= FEATURES_OK;",
            "status |= FEATURES_OK; ... config->writeback = 0;",
        ],
    ),
    RuleInfo::warning(
        "virtio.interrupt-ack",
        rules::INTERRUPT_ACK,
        [
            "Write to InterruptACK the bits that InterruptStatus read.",
            "A constant instead of the value that was read.",
            "write32(INTERRUPT_ACK, ~0u);",
            "write32(INTERRUPT_ACK, read32(INTERRUPT_STATUS));",
        ],
    ),
    RuleInfo::error(
        "virtio.status-bits",
        rules::STATUS_BITS,
        [
            "Write only defined bits of the device status field.",
            "The number of a bit instead of its value.",
            "#define DRIVER_OK 3",
            "#define DRIVER_OK 4",
        ],
    ),
    RuleInfo::error(
        "virtio.status-cleared",
        rules::STATUS_CLEARED,
        [
            "Add bits to the device status field; only a write of 0 clears it.",
            "The new bit is written without the earlier ones.",
            "write32(STATUS, DRIVER);",
            "write32(STATUS, ACKNOWLEDGE | DRIVER);",
        ],
    ),
    RuleInfo::error(
        "virtio.needs-reset",
        rules::NEEDS_RESET,
        [
            "Reset the device when DEVICE_NEEDS_RESET (64) is set in the device status field.",
            "The driver never checks the bit, and waits forever.",
            "while (used->idx == seen) ;",
            "while (used->idx == seen) if (read32(STATUS) & 64) reset();",
        ],
    ),
    RuleInfo::warning(
        "virtio.order",
        rules::STATUS_ORDER,
        [
            "Set ACKNOWLEDGE, DRIVER, FEATURES_OK and DRIVER_OK in this order, each on top of the earlier ones.",
            "A step is missing, such as FEATURES_OK.",
            "write32(STATUS, ACKNOWLEDGE | DRIVER | DRIVER_OK);",
            "write32(STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK); ... | DRIVER_OK",
        ],
    ),
    RuleInfo::error(
        "virtio.features-offered",
        rules::FEATURES_SUBSET,
        [
            "Accept only features that the device offers.",
            "All bits are accepted, or a fixed set.",
            "write32(DRIVER_FEATURES, ~0u);",
            "write32(DRIVER_FEATURES, read32(DEVICE_FEATURES) & MINE);",
        ],
    ),
    RuleInfo::error(
        "virtio.features-final",
        rules::FEATURES_SETTLED,
        [
            "Write DriverFeatures before FEATURES_OK.",
            "The order of the two steps.",
            "write32(STATUS, ... | FEATURES_OK); write32(DRIVER_FEATURES, f);",
            "write32(DRIVER_FEATURES, f); write32(STATUS, ... | FEATURES_OK);",
        ],
    ),
    RuleInfo::warning(
        "virtio.version-1",
        rules::VERSION_1,
        [
            "Accept VERSION_1, bit 32, on a modern device: bit 0 of DriverFeatures with DriverFeaturesSel 1.",
            "Only the lower 32 features are negotiated. It works here and on QEMU; the specification lets a device refuse it.",
            "write32(DRIVER_FEATURES, f);",
            "write32(DRIVER_FEATURES_SEL, 1); write32(DRIVER_FEATURES, 1);",
        ],
    ),
    RuleInfo::warning(
        "virtio.queues-first",
        rules::NO_QUEUE,
        [
            "Set up at least one queue before DRIVER_OK.",
            "DRIVER_OK too early, or QueueReady forgotten.",
            "write32(STATUS, ... | DRIVER_OK); setup_queue();",
            "setup_queue(); write32(QUEUE_READY, 1); write32(STATUS, ... | DRIVER_OK);",
        ],
    ),
    RuleInfo::error(
        "virtio.no-queue",
        rules::QUEUE_SEL,
        [
            "Use only queues for which QueueNumMax is not 0.",
            "QueueSel counts from 1, or more queues than the device has.",
            "write32(QUEUE_SEL, 1); write32(QUEUE_NUM, 8);",
            "write32(QUEUE_SEL, 0); if (read32(QUEUE_NUM_MAX)) write32(QUEUE_NUM, 8);",
        ],
    ),
    RuleInfo::error(
        "virtio.empty-slot",
        rules::EMPTY_SLOT,
        [
            "Read DeviceID, and continue with the next slot if it is 0.",
            "A wrong base address, or a driver that checks MagicValue only.",
            "if (read32(base) == 0x74726976) init(base);",
            "if (read32(base) == 0x74726976 && read32(base + 8) == 2) init(base);",
        ],
    ),
    RuleInfo::warning(
        "virtio.queue-early",
        rules::QUEUE_EARLY,
        [
            "Set up queues after FEATURES_OK.",
            "The queue is described before the features are negotiated.",
            "setup_queue(); write32(STATUS, ... | FEATURES_OK);",
            "write32(STATUS, ... | FEATURES_OK); setup_queue();",
        ],
    ),
    RuleInfo::error(
        "virtio.queue-in-use",
        rules::QUEUE_LIVE,
        [
            "Leave the registers of a queue alone while QueueReady is 1.",
            "The set-up runs twice, without a reset in between.",
            "init(); init();",
            "write32(STATUS, 0); while (read32(STATUS)) ; init();",
        ],
    ),
    RuleInfo::error(
        "virtio.queue-layout",
        rules::QUEUE_LAYOUT,
        [
            "Give a queue a size that is a power of two up to QueueNumMax, and three physical addresses in RAM: the descriptor \
         table aligned to 16 bytes, the available ring to 2, the used ring to 4.",
            "A size larger than QueueNumMax, a part that is not aligned, a virtual address, or swapped halves of an address.",
            "write32(QUEUE_NUM, 1000); write32(QUEUE_DESC_LOW, (uint32_t)desc);",
            "write32(QUEUE_NUM, 8); write32(QUEUE_DESC_LOW, virt_to_phys(desc));",
        ],
    ),
    RuleInfo::warning(
        "virtio.queue-align",
        rules::QUEUE_ALIGN,
        [
            "Legacy: write QueueAlign, a power of two, before QueuePFN.",
            "QueueAlign is left out. Works here with 4096; another device may place the used ring elsewhere.",
            "write32(QUEUE_PFN, pfn);",
            "write32(QUEUE_ALIGN, 4096); write32(QUEUE_PFN, pfn);",
        ],
    ),
    RuleInfo::warning(
        "virtio.guest-page-size",
        rules::GUEST_PAGE_SIZE,
        [
            "Legacy: write GuestPageSize before QueuePFN.",
            "GuestPageSize is left out. Works here with an address in bytes; other devices use another unit.",
            "write32(QUEUE_PFN, queue / 4096);",
            "write32(GUEST_PAGE_SIZE, 4096); write32(QUEUE_PFN, queue / 4096);",
        ],
    ),
    RuleInfo::error(
        "virtio.queue-reset",
        rules::QUEUE_RESET,
        [
            "Use QueueReset only after accepting RING_RESET (bit 40).",
            "The feature is not negotiated.",
            "write32(QUEUE_RESET, 1);",
            "write32(STATUS, 0); /* resets all queues */",
        ],
    ),
    RuleInfo::error(
        "virtio.notify",
        rules::NOTIFY,
        [
            "Write to QueueNotify the index of a queue that is ready, after DRIVER_OK.",
            "The doorbell rings too early, or its value is the head of the chain.",
            "write32(QUEUE_NOTIFY, head);",
            "write32(QUEUE_NOTIFY, 0); /* queue 0 */",
        ],
    ),
    RuleInfo::error(
        "virtio.avail-index",
        rules::AVAIL_INDEX,
        [
            "Let avail->idx count all chains, modulo 65536: add one for each, never more than the queue has entries ahead.",
            "idx is reset to 0, taken modulo the queue size, or added to twice.",
            "avail->idx = (avail->idx + 1) % QUEUE_SIZE;",
            "avail->ring[avail->idx % QUEUE_SIZE] = head; barrier(); avail->idx += 1;",
        ],
    ),
    RuleInfo::error(
        "virtio.chain",
        rules::CHAIN,
        [
            "Chain descriptors by `next`, below the queue size, with buffers in RAM. Set NEXT on all but the last one.",
            "A wrong index in `next`, a virtual address, or an indirect descriptor without INDIRECT_DESC.",
            "desc[i].addr = (uint64_t)buffer; desc[i].next = QUEUE_SIZE;",
            "desc[i].addr = virt_to_phys(buffer); desc[i].flags = NEXT; desc[i].next = i + 1;",
        ],
    ),
    RuleInfo::error(
        "virtio.chain-length",
        rules::CHAIN_LENGTH,
        [
            "End each chain after at most as many descriptors as the queue has.",
            "The last descriptor has NEXT, so that the chain is a loop.",
            "desc[2].flags = WRITE | NEXT;",
            "desc[2].flags = WRITE;",
        ],
    ),
    RuleInfo::error(
        "virtio.readable-first",
        rules::FRAMING,
        [
            "Put buffers that the device reads before those that it writes.",
            "The WRITE flag of a later descriptor is missing.",
            "header: NEXT; data: NEXT | WRITE; status: 0",
            "header: NEXT; data: NEXT | WRITE; status: WRITE",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-layout",
        rules::BLK_LAYOUT,
        [
            "Build a request as header (16 bytes, the device reads), data, status (1 byte, the device writes).",
            "A missing NEXT, a missing WRITE on the data of a read or on the status, or a status of 0 bytes.",
            "desc[1].flags = NEXT; /* the data of a read */",
            "desc[1].flags = NEXT | WRITE; desc[2].len = 1; desc[2].flags = WRITE;",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-sectors",
        rules::BLK_DATA,
        [
            "Transfer whole sectors of 512 bytes.",
            "A length in another unit, or a header that is not 16 bytes, so that its rest counts as data.",
            "desc[0].len = 12; desc[1].len = 1000;",
            "desc[0].len = 16; desc[1].len = 1024;",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-range",
        rules::BLK_RANGE,
        [
            "Keep sector + length within the capacity. sector counts 512 bytes, whatever blk_size is.",
            "The sector is given in bytes, or in blocks of the file system.",
            "header.sector = offset;",
            "header.sector = offset / 512;",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-read-only",
        rules::BLK_READ_ONLY,
        [
            "Write only if the feature RO (bit 5) is not offered.",
            "The driver ignores the feature, or the disk has readonly=on by mistake.",
            "write_sector(0);",
            "if (!(features & (1 << 5))) write_sector(0);",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-ranges",
        rules::BLK_RANGES,
        [
            "Give discard and write-zeroes ranges of 16 bytes (sector, sectors, flags), within the limits of the configuration space.",
            "A list with another layout, or more sectors than max_discard_sectors.",
            "range.num_sectors = capacity;",
            "range.num_sectors = min(n, config->max_discard_sectors);",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-type",
        rules::BLK_TYPE,
        [
            "Use a type that the device offers: 0 read, 1 write, 4 flush (FLUSH), 8 get id, 11 discard, 13 write zeroes.",
            "An uninitialised header, or fields in another order.",
            "struct { uint64_t sector; uint32_t type, reserved; } header;",
            "struct { uint32_t type, reserved; uint64_t sector; } header;",
        ],
    ),
    RuleInfo::error(
        "virtio.blk-size",
        rules::BLK_SIZE,
        [
            "Transfer at most 128 MiB in one request. This is a limit of cafevm.",
            "A length with garbage in its upper bits.",
            "desc[1].len = ~0u;",
            "desc[1].len = 4096;",
        ],
    ),
    RuleInfo::warning(
        "virtio.rng-buffers",
        rules::RNG_BUFFERS,
        [
            "Give an entropy device buffers with the WRITE flag.",
            "The WRITE flag is missing.",
            "desc[0].flags = 0;",
            "desc[0].flags = WRITE;",
        ],
    ),
    RuleInfo::error(
        "virtio.input-buffers",
        rules::INPUT_BUFFERS,
        [
            "Fill the event queue of an input device with buffers of 8 bytes with the WRITE flag, a descriptor each; give at least as many as one update of the device has events.",
            "The WRITE flag is missing, one large buffer is given for many events, or the queue has only one or two entries.",
            "desc[0].len = 64 * sizeof(struct virtio_input_event); /* one buffer */",
            "for (i = 0; i < 64; i++) { desc[i].addr = (u64)&events[i]; desc[i].len = 8; desc[i].flags = WRITE; }",
        ],
    ),
    RuleInfo::warning(
        "virtio.input-status",
        rules::INPUT_STATUS,
        [
            "Put one whole event (type, code, value: 8 bytes) into each buffer of the status queue, for the device to read.",
            "The buffer is shorter, or has the WRITE flag.",
            "desc[0].len = 4; /* only the value */",
            "desc[0].addr = (u64)&event; desc[0].len = sizeof(event); desc[0].flags = 0;",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-layout",
        rules::GPU_LAYOUT,
        [
            "Give the GPU the whole structure of a command, from its header on, for the device to read.",
            "Padding is left out, or only the header is given.",
            "desc[0].len = sizeof(struct virtio_gpu_ctrl_hdr); /* RESOURCE_FLUSH */",
            "desc[0].len = sizeof(struct virtio_gpu_resource_flush);",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-response",
        rules::GPU_RESPONSE,
        [
            "Give each command of the control queue a buffer with the WRITE flag for its response: 24 bytes, 408 for GET_DISPLAY_INFO, 1056 for GET_EDID.",
            "The buffer for the response is missing, too short, or has no WRITE flag.",
            "desc[1].len = 24; /* GET_DISPLAY_INFO */",
            "desc[1].len = sizeof(struct virtio_gpu_resp_display_info); desc[1].flags = WRITE;",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-command",
        rules::GPU_COMMAND,
        [
            "Send only 2D commands, on their queue, and GET_EDID only if the driver accepted the feature EDID.",
            "A command of 3D, a cursor command on the control queue, or a type in the wrong byte order.",
            "cmd.hdr.type = UPDATE_CURSOR; send(CONTROLQ, &cmd);",
            "cmd.hdr.type = UPDATE_CURSOR; send(CURSORQ, &cmd);",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-resource",
        rules::GPU_RESOURCE,
        [
            "Choose ids other than 0, create each resource once, with one of the eight formats and sides of 1 to 8192 pixels; a cursor has 64x64.",
            "A resource is used after RESOURCE_UNREF, or the id 0 is used.",
            "create_2d(0, B8G8R8X8, 1024, 768);",
            "create_2d(1, B8G8R8X8, 1024, 768);",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-range",
        rules::GPU_RANGE,
        [
            "Keep rectangles within the resource, and use scanout 0 only.",
            "The size of the display is used after it changed, with the old, smaller resource.",
            "flush(id, 0, 0, display.width, display.height);",
            "flush(id, 0, 0, resource.width, resource.height);",
        ],
    ),
    RuleInfo::error(
        "virtio.gpu-backing",
        rules::GPU_BACKING,
        [
            "Attach guest-physical memory that is large enough, once, before TRANSFER_TO_HOST_2D; rows in it are as far apart as in the resource.",
            "A virtual address, or an offset in pixels instead of bytes.",
            "transfer(id, rect, /* offset */ y * width + x);",
            "transfer(id, rect, /* offset */ (y * width + x) * 4);",
        ],
    ),
    RuleInfo::warning(
        "virtio.gpu-memory",
        rules::GPU_MEMORY,
        [
            "Keep all resources below the limit of --gpu max=SIZE (256 MiB), 4096 resources, and 65536 entries of a backing.",
            "Old resources are not removed when the display changes its size.",
            "create_2d(next_id++, ...);",
            "unref(old_id); create_2d(next_id++, ...);",
        ],
    ),
    RuleInfo::error(
        "host",
        rules::HOST,
        [
            "Nothing: the host failed, not the driver.",
            "A full or broken file system, or an image that another program cut. The log line has the host's error.",
            "df: /images is full",
            "free space on the host, then try again; werror=stop pauses the machine instead",
        ],
    ),
];
