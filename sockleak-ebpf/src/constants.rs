//! Constants that user space writes into the instructions before load: see `sockleak_ebpf::placeholders`.

use core::arch::asm;

use sockleak_ebpf::placeholders::{LOAD, MASK, OFFSET, RDONLY_CAST, SETTING, STRUCTURE};

/// A member of a kernel structure; the number is its index in `sockleak_ebpf::FIELDS`.
pub struct Field<const INDEX: usize>;

/// What is known of a [`Field`].
pub trait Member {
    /// Offset in bytes; of a bit, of its byte. `ABSENT` when this kernel has no such member.
    fn offset(&self) -> u32;

    /// The bit in its byte.
    fn mask(&self) -> u8;

    /// Loads the member of the structure at `base`, which has the type that the verifier wants there.
    ///
    /// # Safety
    /// `T` is an integer or a pointer with the size of the member; its first 8 bytes otherwise, or a bit's byte.
    unsafe fn load<T: Copy + Default>(&self, base: *const u8) -> T;

    /// `base` as a pointer to the structure in which the member is, which may be read as one.
    fn cast(&self, base: *const u8) -> *const u8;
}

macro_rules! placeholder {
    ($value:expr) => {{
        let value: u32;
        // SAFETY: a move.
        unsafe {
            asm!("{value} = {number}", value = out(wreg) value, number = const $value,
                options(pure, nomem, nostack, preserves_flags));
        }
        value
    }};
}

macro_rules! load {
    ($width:literal, $base:ident, $as:ty) => {{
        let value: u64;
        asm!(
            concat!("{value} = *(", $width, " *)({base} + {offset})"),
            value = lateout(reg) value,
            base = in(reg) $base,
            offset = const LOAD + INDEX as i16,
            options(pure, readonly, nostack, preserves_flags),
        );
        core::mem::transmute_copy(&(value as $as))
    }};
}

impl<const INDEX: usize> Member for Field<INDEX> {
    #[inline(always)]
    fn offset(&self) -> u32 {
        placeholder!(OFFSET + INDEX as i32)
    }

    #[inline(always)]
    fn mask(&self) -> u8 {
        placeholder!(MASK + INDEX as i32) as u8
    }

    #[inline(always)]
    unsafe fn load<T: Copy + Default>(&self, base: *const u8) -> T {
        // SAFETY: a load that the verifier checks; passed on to the caller.
        unsafe {
            match size_of::<T>() {
                1 => load!("u8", base, u8),
                2 => load!("u16", base, u16),
                4 => load!("u32", base, u32),
                _ => load!("u64", base, u64),
            }
        }
    }

    #[inline(always)]
    fn cast(&self, base: *const u8) -> *const u8 {
        let structure = placeholder!(STRUCTURE + INDEX as i32);
        let typed: u64;
        // SAFETY: the function changes what the verifier knows of a pointer, and nothing else.
        unsafe {
            asm!(
                "call {function}",
                function = const RDONLY_CAST,
                inlateout("r1") base.addr() => _,
                inlateout("r2") u64::from(structure) => _,
                lateout("r0") typed,
                lateout("r3") _,
                lateout("r4") _,
                lateout("r5") _,
                options(pure, nomem, nostack),
            );
        }
        typed as *const u8
    }
}

/// One of `sockleak_ebpf::placeholders::SETTINGS`, by its index.
pub struct Setting<const INDEX: usize>;

impl<const INDEX: usize> Setting<INDEX> {
    /// Its value, a constant to the verifier.
    #[inline(always)]
    pub fn load(&self) -> u32 {
        placeholder!(SETTING + INDEX as i32)
    }
}

macro_rules! fields {
    ($(($name:ident, $path:literal, $size:literal))*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($name,)* }

        $(#[doc = $path] pub const $name: Field<{ Index::$name as usize }> = Field;)*
    };
}
sockleak_ebpf::kernel_fields!(fields);

macro_rules! settings {
    ($($name:ident)*) => {
        $(
            /// See `sockleak_ebpf::placeholders`.
            pub const $name: Setting<{ sockleak_ebpf::placeholders::$name }> = Setting;
        )*
    };
}
settings!(EMIT_EVENTS RUN TASK_BTF TASK_REGS CAST SOCKET_BUCKETS PROCESS_SLOTS SEARCH_SLOTS STACK_MODE ONE_PASS);
