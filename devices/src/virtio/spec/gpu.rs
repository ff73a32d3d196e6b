//! The GPU device (5.7).

/// The device's id (5).
pub const DEVICE_ID: u32 = 16;
/// The queue of commands (5.7.2).
pub const CONTROL_QUEUE: u16 = 0;
/// The queue of commands for the cursor (5.7.2).
pub const CURSOR_QUEUE: u16 = 1;

/// The offset of `events_read` in the configuration space, in bytes (5.7.4).
pub const CONFIG_EVENTS_READ: usize = 0;
/// The offset of `events_clear`.
pub const CONFIG_EVENTS_CLEAR: u64 = 4;
/// The offset of `num_scanouts`.
pub const CONFIG_NUM_SCANOUTS: usize = 8;
/// The bytes of the configuration space.
pub const CONFIG_SIZE: usize = 20;
/// VIRTIO_GPU_EVENT_DISPLAY: the display has another size (5.7.4.2).
pub const EVENT_DISPLAY: u32 = 1;

/// The bytes of the header of each command and each response (5.7.6.7).
pub const HEADER_SIZE: usize = 24;
/// VIRTIO_GPU_FLAG_FENCE: the response comes after the command was carried out, with its fence.
pub const FLAG_FENCE: u32 = 1;

/// The size of the display.
pub const CMD_GET_DISPLAY_INFO: u32 = 0x0100;
/// Creates a resource.
pub const CMD_RESOURCE_CREATE_2D: u32 = 0x0101;
/// Removes a resource.
pub const CMD_RESOURCE_UNREF: u32 = 0x0102;
/// Shows a part of a resource on the display.
pub const CMD_SET_SCANOUT: u32 = 0x0103;
/// Makes changes of a resource visible.
pub const CMD_RESOURCE_FLUSH: u32 = 0x0104;
/// Copies from guest RAM to a resource.
pub const CMD_TRANSFER_TO_HOST_2D: u32 = 0x0105;
/// Names the guest RAM for a resource.
pub const CMD_RESOURCE_ATTACH_BACKING: u32 = 0x0106;
/// Forgets the guest RAM for a resource.
pub const CMD_RESOURCE_DETACH_BACKING: u32 = 0x0107;
/// The EDID of the display.
pub const CMD_GET_EDID: u32 = 0x010a;
/// Changes the picture of the cursor, and moves it.
pub const CMD_UPDATE_CURSOR: u32 = 0x0300;
/// Moves the cursor.
pub const CMD_MOVE_CURSOR: u32 = 0x0301;

/// The first command that is not one of 2D, EDID and shared resources.
pub const CMD_3D: u32 = 0x0200;

/// Response: done.
pub const RESP_OK_NODATA: u32 = 0x1100;
/// Response: the size of the display.
pub const RESP_OK_DISPLAY_INFO: u32 = 0x1101;
/// Response: the EDID.
pub const RESP_OK_EDID: u32 = 0x1104;
/// Response: another error.
pub const RESP_ERR_UNSPEC: u32 = 0x1200;
/// Response: too much memory.
pub const RESP_ERR_OUT_OF_MEMORY: u32 = 0x1201;
/// Response: no such scanout.
pub const RESP_ERR_INVALID_SCANOUT_ID: u32 = 0x1202;
/// Response: no such resource, or there is one already.
pub const RESP_ERR_INVALID_RESOURCE_ID: u32 = 0x1203;
/// Response: a wrong value.
pub const RESP_ERR_INVALID_PARAMETER: u32 = 0x1205;

/// The scanouts in the response to GET_DISPLAY_INFO, whatever their number is (5.7.6.8).
pub const MAX_SCANOUTS: usize = 16;
/// The bytes of the response for each of them.
pub const DISPLAY_ONE_SIZE: usize = 24;
/// The bytes for the EDID in the response to GET_EDID.
pub const EDID_MAX: usize = 1024;
/// The bytes of an entry of RESOURCE_ATTACH_BACKING: address, length, padding.
pub const MEM_ENTRY_SIZE: usize = 16;
/// The bytes of a pixel in every format.
pub const PIXEL_SIZE: u32 = 4;

/// Format: blue, green, red, alpha (5.7.6.8; the names give the bytes in their order in memory).
pub const FORMAT_B8G8R8A8: u32 = 1;
/// Format: blue, green, red, nothing.
pub const FORMAT_B8G8R8X8: u32 = 2;
/// Format: alpha, red, green, blue.
pub const FORMAT_A8R8G8B8: u32 = 3;
/// Format: nothing, red, green, blue.
pub const FORMAT_X8R8G8B8: u32 = 4;
/// Format: red, green, blue, alpha.
pub const FORMAT_R8G8B8A8: u32 = 67;
/// Format: nothing, blue, green, red.
pub const FORMAT_X8B8G8R8: u32 = 68;
/// Format: alpha, blue, green, red.
pub const FORMAT_A8B8G8R8: u32 = 121;
/// Format: red, green, blue, nothing.
pub const FORMAT_R8G8B8X8: u32 = 134;
