//! Plain values as bytes: what a driver has decided, for one that goes on from there, also in another
//! process of the same boot.
//!
//! The form is this crate's own and is read by the same version only ([`FORM`]). Numbers are
//! little-endian, what has a length is preceded by it, a variant is one byte. Instants are written as
//! their distance from a `now`, for they mean nothing to anybody else. Any bytes are read or refused.
//!
//! Secrets are never among the bytes: they go beside them, and a number stands in their place.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::SecretEnv;

/// What the bytes begin with. Whoever changes a type that is written changes the number.
const FORM: &[u8] = b"pmesh-service 12\n";

/// Bytes that are not what was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a service as this version writes it: {what} at byte {at}")]
pub(crate) struct BadBytes {
    what: &'static str,
    at: usize,
}

/// A value that can be written down and read back.
pub(crate) trait Saved: Sized {
    fn write(&self, to: &mut SavedWriter);

    /// # Errors
    ///
    /// [`BadBytes`] if it is not this that stands there.
    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes>;
}

/// What was written.
#[derive(Clone, Debug)]
pub(crate) struct SavedForm {
    pub(crate) bytes: Vec<u8>,
    /// What is not among the bytes.
    pub(crate) beside: Vec<SecretEnv>,
}

/// Writes a value and the form it is in.
pub(crate) fn write(value: &impl Saved, now: Instant) -> SavedForm {
    let mut writer = SavedWriter { bytes: FORM.to_vec(), beside: Vec::new(), now };
    value.write(&mut writer);
    SavedForm { bytes: writer.bytes, beside: writer.beside }
}

/// Reads what [`write()`] has written; `now` is the same moment as then.
///
/// # Errors
///
/// [`BadBytes`] for everything else.
pub(crate) fn read<T: Saved>(written: &SavedForm, now: Instant) -> Result<T, BadBytes> {
    let SavedForm { bytes, beside } = written;
    let mut reader = SavedReader { bytes, beside, at: 0, now };
    if reader.take(FORM.len())? != FORM {
        return Err(BadBytes { what: "another form", at: 0 });
    }
    let value = T::read(&mut reader)?;
    if reader.at == bytes.len() { Ok(value) } else { Err(reader.bad("something behind the end")) }
}

pub(crate) struct SavedWriter {
    bytes: Vec<u8>,
    beside: Vec<SecretEnv>,
    now: Instant,
}

impl SavedWriter {
    pub(crate) fn variant(&mut self, number: u8) {
        self.bytes.push(number);
    }

    fn length(&mut self, length: usize) {
        (length as u64).write(self);
    }
}

pub(crate) struct SavedReader<'a> {
    bytes: &'a [u8],
    beside: &'a [SecretEnv],
    at: usize,
    now: Instant,
}

impl<'a> SavedReader<'a> {
    pub(crate) fn bad(&self, what: &'static str) -> BadBytes {
        BadBytes { what, at: self.at }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BadBytes> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(self.bad("the end"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        let at = self.at;
        self.take(N)?.try_into().map_err(|_| BadBytes { what: "the end", at })
    }

    pub(crate) fn variant(&mut self) -> Result<u8, BadBytes> {
        let [number] = self.array()?;
        Ok(number)
    }

    /// A length, of things that are one byte at least each.
    fn length(&mut self) -> Result<usize, BadBytes> {
        let length = u64::read(self)?;
        let left = self.bytes.len() - self.at;
        usize::try_from(length).ok().filter(|&length| length <= left).ok_or(self.bad("a length"))
    }
}

macro_rules! saved_number {
    ($($number:ty)*) => { $(
        impl Saved for $number {
            fn write(&self, to: &mut SavedWriter) {
                to.bytes.extend(self.to_le_bytes());
            }

            fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
                Ok(Self::from_le_bytes(from.array()?))
            }
        }
    )* };
}

saved_number! { u16 u32 u64 i32 i64 }

impl Saved for bool {
    fn write(&self, to: &mut SavedWriter) {
        to.variant(u8::from(*self));
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        match from.variant()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(from.bad("neither yes nor no")),
        }
    }
}

impl Saved for Duration {
    fn write(&self, to: &mut SavedWriter) {
        self.as_secs().write(to);
        self.subsec_nanos().write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        let (seconds, nanos) = (u64::read(from)?, u32::read(from)?);
        if nanos < 1_000_000_000 { Ok(Self::new(seconds, nanos)) } else { Err(from.bad("a duration")) }
    }
}

impl Saved for Instant {
    fn write(&self, to: &mut SavedWriter) {
        let later = self.saturating_duration_since(to.now);
        later.write(to);
        to.now.saturating_duration_since(*self).write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        let (later, earlier) = (Duration::read(from)?, Duration::read(from)?);
        let at = from.now.checked_add(later).and_then(|at| at.checked_sub(earlier));
        at.ok_or(from.bad("a moment"))
    }
}

impl Saved for SecretEnv {
    fn write(&self, to: &mut SavedWriter) {
        let number = to.beside.iter().position(|other| other == self).unwrap_or(to.beside.len());
        if number == to.beside.len() {
            to.beside.push(self.clone());
        }
        to.length(number);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        let number = usize::try_from(u64::read(from)?).ok();
        number.and_then(|number| from.beside.get(number)).cloned().ok_or(from.bad("a number of a secret"))
    }
}

impl Saved for String {
    fn write(&self, to: &mut SavedWriter) {
        to.length(self.len());
        to.bytes.extend(self.as_bytes());
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        let length = from.length()?;
        let text = std::str::from_utf8(from.take(length)?);
        text.map(str::to_owned).map_err(|_| from.bad("no text"))
    }
}

impl Saved for PathBuf {
    fn write(&self, to: &mut SavedWriter) {
        let bytes = self.as_os_str().as_bytes();
        to.length(bytes.len());
        to.bytes.extend(bytes);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        let length = from.length()?;
        Ok(OsString::from_vec(from.take(length)?.to_vec()).into())
    }
}

impl<T: Saved> Saved for Option<T> {
    fn write(&self, to: &mut SavedWriter) {
        self.is_some().write(to);
        if let Some(value) = self {
            value.write(to);
        }
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        bool::read(from)?.then(|| T::read(from)).transpose()
    }
}

impl<T: Saved> Saved for Vec<T> {
    fn write(&self, to: &mut SavedWriter) {
        to.length(self.len());
        for value in self {
            value.write(to);
        }
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        (0..from.length()?).map(|_| T::read(from)).collect()
    }
}

impl<T: Saved + Ord> Saved for BTreeSet<T> {
    fn write(&self, to: &mut SavedWriter) {
        to.length(self.len());
        for value in self {
            value.write(to);
        }
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        (0..from.length()?).map(|_| T::read(from)).collect()
    }
}

impl<K: Saved + Ord, V: Saved> Saved for BTreeMap<K, V> {
    fn write(&self, to: &mut SavedWriter) {
        to.length(self.len());
        for (key, value) in self {
            key.write(to);
            value.write(to);
        }
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        (0..from.length()?).map(|_| Ok((K::read(from)?, V::read(from)?))).collect()
    }
}

impl<A: Saved, B: Saved> Saved for (A, B) {
    fn write(&self, to: &mut SavedWriter) {
        self.0.write(to);
        self.1.write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        Ok((A::read(from)?, B::read(from)?))
    }
}

impl<T: Saved> Saved for Box<T> {
    fn write(&self, to: &mut SavedWriter) {
        (**self).write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        Ok(Self::new(T::read(from)?))
    }
}

impl<T: Saved> Saved for Arc<T> {
    fn write(&self, to: &mut SavedWriter) {
        (**self).write(to);
    }

    fn read(from: &mut SavedReader<'_>) -> Result<Self, BadBytes> {
        Ok(Self::new(T::read(from)?))
    }
}

/// Writes a struct field by field, and an enum by the place of its variant in the list. A field or
/// variant that is left out does not compile.
macro_rules! saved {
    (newtype $name:ident) => {
        impl $crate::saved::Saved for $name {
            fn write(&self, to: &mut $crate::saved::SavedWriter) {
                self.0.write(to);
            }

            fn read(from: &mut $crate::saved::SavedReader<'_>) -> Result<Self, $crate::saved::BadBytes> {
                Ok(Self($crate::saved::Saved::read(from)?))
            }
        }
    };
    (struct $name:ident { $($field:ident),* $(,)? }) => {
        impl $crate::saved::Saved for $name {
            fn write(&self, to: &mut $crate::saved::SavedWriter) {
                let Self { $($field),* } = self;
                $( $field.write(to); )*
            }

            fn read(from: &mut $crate::saved::SavedReader<'_>) -> Result<Self, $crate::saved::BadBytes> {
                Ok(Self { $( $field: $crate::saved::Saved::read(from)? ),* })
            }
        }
    };
    (enum $name:ident { $( $number:literal $variant:ident $( ( $($part:ident),* ) )? $( { $($field:ident),* } )? ),* $(,)? }) => {
        impl $crate::saved::Saved for $name {
            fn write(&self, to: &mut $crate::saved::SavedWriter) {
                match self {
                    $( Self::$variant $( ( $($part),* ) )? $( { $($field),* } )? => {
                        to.variant($number);
                        $( $( $part.write(to); )* )?
                        $( $( $field.write(to); )* )?
                    } )*
                }
            }

            fn read(from: &mut $crate::saved::SavedReader<'_>) -> Result<Self, $crate::saved::BadBytes> {
                match from.variant()? {
                    $( $number => {
                        $( $( let $part = $crate::saved::Saved::read(from)?; )* )?
                        $( $( let $field = $crate::saved::Saved::read(from)?; )* )?
                        Ok(Self::$variant $( ( $($part),* ) )? $( { $($field),* } )?)
                    } )*
                    _ => Err(from.bad("no variant")),
                }
            }
        }
    };
}

pub(crate) use saved;
