//! The virtual machine monitor around the devices.
