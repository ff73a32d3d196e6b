//! The input device (5.8), and the codes of Linux's evdev, which it transports (`linux/input-event-codes.h`).

/// The device's id (5).
pub const DEVICE_ID: u32 = 18;
/// The queue of events for the driver (5.8.2).
pub const EVENT_QUEUE: u16 = 0;
/// The queue of events for the device, such as the state of LEDs (5.8.2).
pub const STATUS_QUEUE: u16 = 1;
/// The bytes of an event: type, code, value (5.8.6).
pub const EVENT_SIZE: u32 = 8;

/// The offset of `select` in the configuration space (5.8.4).
pub const CONFIG_SELECT: u64 = 0;
/// The offset of `subsel`.
pub const CONFIG_SUBSEL: u64 = 1;
/// The offset of `size`.
pub const CONFIG_SIZE: usize = 2;
/// The offset of the information itself, `u`.
pub const CONFIG_DATA: usize = 8;
/// The most bytes of information.
pub const CONFIG_DATA_MAX: usize = 128;

/// `select`: the name.
pub const CFG_ID_NAME: u8 = 0x01;
/// `select`: the serial number.
pub const CFG_ID_SERIAL: u8 = 0x02;
/// `select`: bus type, vendor, product and version.
pub const CFG_ID_DEVIDS: u8 = 0x03;
/// `select`: the properties.
pub const CFG_PROP_BITS: u8 = 0x10;
/// `select`: the codes of the type of events that `subsel` names.
pub const CFG_EV_BITS: u8 = 0x11;
/// `select`: the range of the absolute axis that `subsel` names.
pub const CFG_ABS_INFO: u8 = 0x12;

/// Events that separate others.
pub const EV_SYN: u16 = 0x00;
/// Keys and buttons: 1 pressed, 0 released.
pub const EV_KEY: u16 = 0x01;
/// Relative motion.
pub const EV_REL: u16 = 0x02;
/// Absolute positions.
pub const EV_ABS: u16 = 0x03;
/// LEDs.
pub const EV_LED: u16 = 0x11;
/// The repetition of keys.
pub const EV_REP: u16 = 0x14;

/// EV_SYN: the end of one update of the device.
pub const SYN_REPORT: u16 = 0;

/// EV_REL: motion to the right.
pub const REL_X: u16 = 0x00;
/// EV_REL: motion down.
pub const REL_Y: u16 = 0x01;
/// EV_REL: the wheel, 1 for a step away from the user.
pub const REL_WHEEL: u16 = 0x08;

/// EV_ABS: the position from the left.
pub const ABS_X: u16 = 0x00;
/// EV_ABS: the position from the top.
pub const ABS_Y: u16 = 0x01;
/// The largest position on both axes of a tablet; the lowest is 0.
pub const ABS_MAX: u32 = 0x7fff;

/// EV_KEY: the left button.
pub const BTN_LEFT: u16 = 0x110;
/// EV_KEY: the right button.
pub const BTN_RIGHT: u16 = 0x111;
/// EV_KEY: the middle button.
pub const BTN_MIDDLE: u16 = 0x112;
/// EV_KEY: a button at the side.
pub const BTN_SIDE: u16 = 0x113;
/// EV_KEY: another button.
pub const BTN_EXTRA: u16 = 0x114;
/// EV_KEY: a touch.
pub const BTN_TOUCH: u16 = 0x14a;
/// EV_KEY: a step of the wheel towards the user, for mice without REL_WHEEL.
pub const BTN_GEAR_DOWN: u16 = 0x150;
/// EV_KEY: a step of the wheel away from the user, for mice without REL_WHEEL.
pub const BTN_GEAR_UP: u16 = 0x151;

/// EV_LED: Num Lock.
pub const LED_NUML: u16 = 0x00;
/// EV_LED: Caps Lock.
pub const LED_CAPSL: u16 = 0x01;
/// EV_LED: Scroll Lock.
pub const LED_SCROLLL: u16 = 0x02;

/// The bus type of devices that are not on a bus.
pub const BUS_VIRTUAL: u16 = 0x06;
