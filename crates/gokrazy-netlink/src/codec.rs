//! Netlink messages and attributes as bytes: `netlink(7)`; pure.
//!
//! Integers are in the machine's own byte order; headers and attributes are aligned to four bytes.
//! Reading never panics: what does not fit its announced length ends the iteration.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct rtattr`.
const ATTRIBUTE_HEADER: usize = 4;

/// A message under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    bytes: Vec<u8>,
}

impl Builder {
    /// A message of type `kind` with `flags` and sequence number `sequence`, followed by the fixed part `body`.
    pub fn new(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(128);
        bytes.extend([0; 4]);
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(body);
        let mut builder = Self { bytes };
        builder.align();
        builder
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        // Our values are addresses, integers and names: far below the 64 KiB that the length can say.
        let len = ATTRIBUTE_HEADER.saturating_add(value.len());
        let len = u16::try_from(len).unwrap_or(u16::MAX);
        self.bytes.extend(len.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.align();
        self
    }

    /// Appends an attribute that holds a 32-bit integer.
    pub fn attribute_u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// The finished message.
    pub fn finish(mut self) -> Vec<u8> {
        let len = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        for (slot, byte) in self.bytes.iter_mut().zip(len.to_ne_bytes()) {
            *slot = byte;
        }
        self.bytes
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// Attributes as the value of another one.
pub fn nest(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut builder = Builder { bytes: Vec::new() };
    for (kind, value) in attributes {
        builder.attribute(*kind, value);
    }
    builder.bytes
}

/// One received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type, one of the `RTM_*` or `NLMSG_*` numbers.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Sequence number of the request that it answers.
    pub sequence: u32,
    /// All after the header.
    pub body: &'a [u8],
}

/// The messages in a datagram, up to the first that does not fit.
pub fn messages(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let len = usize::try_from(read_u32(rest, 0)?).ok()?;
        let body = rest.get(HEADER..len)?;
        let message = Message {
            kind: read_u16(rest, 4)?,
            flags: read_u16(rest, 6)?,
            sequence: read_u32(rest, 8)?,
            body,
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The attributes in `bytes`, up to the first that does not fit; flag bits are taken off the types.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let len = usize::from(read_u16(rest, 0)?);
        let value = rest.get(ATTRIBUTE_HEADER..len)?;
        // NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        let kind = read_u16(rest, 2)? & 0x3fff;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The 16-bit integer at `offset`, in the machine's byte order.
pub fn read_u16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes
        .get(offset..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

/// The 32-bit integer at `offset`, in the machine's byte order.
pub fn read_u32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = Builder::new(20, 5, 7, &[2, 24, 0, 0, 9, 0, 0, 0]);
        builder
            .attribute(1, &[192, 0, 2, 1])
            .attribute(3, b"eth0\0")
            .attribute_u32(8, 77);
        builder.finish()
    }

    #[test]
    fn what_is_built_is_read_back() {
        let bytes = sample();
        let message = messages(&bytes).next().unwrap();
        assert_eq!((message.kind, message.flags, message.sequence), (20, 5, 7));
        let read: Vec<_> = attributes(&message.body[8..]).collect();
        assert_eq!(
            read,
            [
                (1, &[192, 0, 2, 1][..]),
                (3, b"eth0\0"),
                (8, &77_u32.to_ne_bytes())
            ]
        );
    }

    #[test]
    fn nested_attributes_are_read_back() {
        let nested = nest(&[(1, b"vlan"), (2, &[7])]);
        let read: Vec<_> = attributes(&nested).collect();
        assert_eq!(read, [(1, &b"vlan"[..]), (2, &[7])]);
    }

    #[test]
    fn every_truncation_and_length_is_survived() {
        let bytes = [sample(), sample()].concat();
        for end in 0..bytes.len() {
            for message in messages(&bytes[..end]) {
                assert!(attributes(message.body).count() < 64);
            }
        }
        for offset in 0..bytes.len() {
            for value in [0, 1, 3, 4, 255] {
                let mut bent = bytes.clone();
                bent[offset] = value;
                for message in messages(&bent) {
                    let _ = attributes(message.body).count();
                }
            }
        }
    }
}
