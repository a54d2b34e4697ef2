//! A flattened device tree with the seed that a Pi's firmware puts into it (Devicetree Specification, chapter 5); pure.
//!
//! The kernel's pool is initialised by `/chosen/rng-seed` before the first process runs.

const MAGIC: u32 = 0xd00d_feed;
/// Bytes of the header, all of them big-endian numbers of four bytes.
const HEADER: usize = 40;
/// Tokens of the structure block.
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOP: u32 = 4;

/// Depth of the node `/chosen`, below the root.
const CHOSEN_DEPTH: u32 = 2;

/// The tree with `seed` as `/chosen/rng-seed`; `None` if it is none, or has no `/chosen`.
pub(crate) fn with_seed(tree: &[u8], seed: &[u8]) -> Option<Vec<u8>> {
    if number(tree, 0)? != MAGIC {
        return None;
    }
    let at = |field: usize| usize::try_from(number(tree, field * 4)?).ok();
    let (structure_at, strings_at, reserved_at) = (at(2)?, at(3)?, at(4)?);
    let mut structure = tree.get(structure_at..)?.get(..at(9)?)?.to_vec();
    let mut strings = tree.get(strings_at..)?.get(..at(8)?)?.to_vec();
    let reserved = tree.get(reserved_at..structure_at)?;

    let mut property = PROPERTY.to_be_bytes().to_vec();
    property.extend(u32::try_from(seed.len()).ok()?.to_be_bytes());
    property.extend(u32::try_from(strings.len()).ok()?.to_be_bytes());
    property.extend(seed);
    property.resize(property.len().next_multiple_of(4), 0);
    let place = inside_chosen(&structure)?;
    structure.splice(place..place, property);
    strings.extend(b"rng-seed\0");

    let structure_at = HEADER + reserved.len();
    let strings_at = structure_at + structure.len();
    let total = strings_at + strings.len();
    let mut header = tree.get(..HEADER)?.to_vec();
    for (field, value) in [
        (1, total),
        (2, structure_at),
        (3, strings_at),
        (4, HEADER),
        (8, strings.len()),
        (9, structure.len()),
    ] {
        let place = header.get_mut(field * 4..)?.get_mut(..4)?;
        place.copy_from_slice(&u32::try_from(value).ok()?.to_be_bytes());
    }
    Some([&header, reserved, &structure, &strings].concat())
}

/// Where the properties of `/chosen` begin.
fn inside_chosen(structure: &[u8]) -> Option<usize> {
    let (mut at, mut depth) = (0, 0);
    loop {
        let token = number(structure, at)?;
        at += 4;
        match token {
            BEGIN_NODE => {
                depth += 1;
                let name = structure.get(at..)?.split(|byte| *byte == 0).next()?;
                at = (at + name.len() + 1).next_multiple_of(4);
                if depth == CHOSEN_DEPTH && name == b"chosen" {
                    return Some(at);
                }
            }
            END_NODE => depth = depth.checked_sub(1)?,
            PROPERTY => {
                let length = usize::try_from(number(structure, at)?).ok()?;
                at = (at + 8).checked_add(length)?.next_multiple_of(4);
            }
            NOP => {}
            _ => return None,
        }
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u32 = 9;

    fn node(name: &str, inside: &[u8]) -> Vec<u8> {
        let mut bytes = BEGIN_NODE.to_be_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
        bytes.extend(inside);
        bytes.extend(END_NODE.to_be_bytes());
        bytes
    }

    fn property(name_at: u32, value: &[u8]) -> Vec<u8> {
        let length = u32::try_from(value.len()).unwrap();
        let mut bytes = [PROPERTY, length, name_at].map(u32::to_be_bytes).concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A tree whose `/soc/chosen` is another node than `/chosen`, which holds `inside`.
    fn tree(inside: &[u8], strings: &[u8]) -> Vec<u8> {
        let decoy = node("soc", &node("chosen", &[]));
        let root = [property(0, b"x\0"), decoy, node("chosen", inside)].concat();
        let structure = [node("", &root), END.to_be_bytes().to_vec()].concat();
        let numbers = [
            MAGIC,
            (56 + structure.len() + strings.len()) as u32,
            56,
            (56 + structure.len()) as u32,
            40,
            17,
            16,
            0,
            strings.len() as u32,
            structure.len() as u32,
        ];
        let header = numbers.map(u32::to_be_bytes).concat();
        [&header, &[0; 16][..], &structure, strings].concat()
    }

    #[test]
    fn the_seed_stands_before_what_was_chosen() {
        let path = property(6, b"serial0\0");
        let with = with_seed(&tree(&path, b"model\0stdout-path\0"), b"12345").unwrap();
        let want = [property(18, b"12345"), path].concat();
        assert_eq!(with, tree(&want, b"model\0stdout-path\0rng-seed\0"));
    }

    #[test]
    fn what_is_no_tree_gets_no_seed() {
        assert_eq!(with_seed(&[], b"1"), None);
        assert_eq!(with_seed(&[0xd0, 0x0d, 0xfe, 0xed], b"1"), None);
        assert_eq!(with_seed(&[0; 100], b"1"), None);
        let whole = tree(&[], b"model\0");
        for length in 0..whole.len() {
            assert_eq!(with_seed(&whole[..length], b"1"), None, "{length}");
        }
    }
}
