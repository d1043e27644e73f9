//! The Huffman code of HTTP heads (RFC 7541 5.2 and appendix B), four bits at a time.
//!
//! h3 decodes it bit by bit, 200 instructions for each character: more than all the rest of a hit for the heads that browsers
//! send. The code is canonical, so the lengths of its codes say all of it; the table is worked out when this is compiled.
//! Who calls it: `plain`. Deliberately not here: encoding, which nobody has to.

/// Appends the text that `coded` stands for to `text`; false if it stands for none (RFC 7541 5.2), with `text` as it then is.
pub(super) fn decode(coded: &[u8], text: &mut Vec<u8>) -> bool {
    // The shortest code has five bits.
    text.reserve(coded.len() * 8 / 5 + 1);
    let mut state = START;
    for byte in coded {
        for bits in [byte >> 4, byte & 0xf] {
            let step = STEPS[state as usize][bits as usize];
            match step.what {
                What::Nothing => {}
                What::Symbol => text.push(step.symbol),
                What::Fault => return false,
            }
            state = step.state;
        }
    }
    MAY_END[state as usize]
}

/// What four bits more lead to.
#[derive(Clone, Copy)]
struct Step {
    state: u8,
    /// What they complete, if anything: no two codes end within four bits.
    symbol: u8,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    Nothing,
    Symbol,
    /// The code of the end itself, which no text has.
    Fault,
}

/// A state is how much of a code has been read: an inner node of the code's tree.
const STATES: usize = 256;
const START: u8 = 0;

static STEPS: [[Step; 16]; STATES] = steps();
/// Where a text may end: after whole codes and at most seven bits of padding, all of them one.
static MAY_END: [bool; STATES] = may_end();

/// A node of the tree.
#[derive(Clone, Copy)]
enum Node {
    /// No code leads here; none is left when the tree is whole.
    None,
    Inner(u8),
    Leaf(u8),
    /// The code of the end.
    End,
}

/// Puts every code into a tree: codes of one length are in the order of their symbols, behind those that are shorter.
const fn tree() -> [[Node; 2]; STATES] {
    let mut nodes = [[Node::None; 2]; STATES];
    let mut used = 1;
    let mut code: u32 = 0;
    let mut length = 1;
    while length <= LENGTH_MAX {
        code <<= 1;
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] == length {
                let mut at = START;
                let mut depth = length - 1;
                while depth > 0 {
                    let bit = (code >> depth & 1) as usize;
                    at = match nodes[at as usize][bit] {
                        Node::Inner(next) => next,
                        Node::None | Node::Leaf(_) | Node::End => {
                            nodes[at as usize][bit] = Node::Inner(used);
                            used = used.wrapping_add(1); // The last inner node is the 256th.
                            used.wrapping_sub(1)
                        }
                    };
                    depth -= 1;
                }
                let leaf = if symbol < 256 {
                    Node::Leaf(symbol as u8)
                } else {
                    Node::End
                };
                nodes[at as usize][(code & 1) as usize] = leaf;
                code += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    nodes
}

const fn steps() -> [[Step; 16]; STATES] {
    const FAULT: Step = Step {
        state: START,
        symbol: 0,
        what: What::Fault,
    };
    let nodes = tree();
    let mut steps = [[FAULT; 16]; STATES];
    let mut from = 0;
    while from < STATES {
        let mut bits = 0;
        while bits < 16 {
            let mut step = Step {
                state: from as u8,
                symbol: 0,
                what: What::Nothing,
            };
            let mut left = 4;
            while left > 0 {
                left -= 1;
                match nodes[step.state as usize][bits >> left & 1] {
                    Node::Inner(next) => step.state = next,
                    Node::Leaf(symbol) => {
                        step.symbol = symbol;
                        step.what = What::Symbol;
                        step.state = START;
                    }
                    Node::None | Node::End => {
                        step = FAULT;
                        left = 0;
                    }
                }
            }
            steps[from][bits] = step;
            bits += 1;
        }
        from += 1;
    }
    steps
}

const fn may_end() -> [bool; STATES] {
    let nodes = tree();
    let mut may_end = [false; STATES];
    let mut at = START;
    let mut padding = 0;
    while padding <= 7 {
        may_end[at as usize] = true;
        at = match nodes[at as usize][1] {
            Node::Inner(next) => next,
            Node::None | Node::Leaf(_) | Node::End => panic!("eight ones are no code"),
        };
        padding += 1;
    }
    may_end
}

const LENGTH_MAX: u8 = 30;

/// How long the code of each byte is, and that of the end (RFC 7541, appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
     6, 10, 10, 12, 13,  6,  8, 11, 10, 10,  8, 11,  8,  6,  6,  6,  5,  5,  5,  6,  6,  6,  6,  6,  6,  6,  7,  8, 15,  6, 12, 10,
    13,  6,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  7,  8,  7,  8, 13, 19, 13, 14,  6,
    15,  5,  6,  5,  6,  5,  6,  6,  6,  5,  7,  7,  6,  6,  6,  5,  6,  7,  6,  5,  5,  6,  7,  7,  7,  7,  7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

#[cfg(test)]
mod tests {
    use httlib_huffman::encode;
    use proptest::prelude::*;

    use super::*;

    fn decoded(coded: &[u8]) -> Option<Vec<u8>> {
        let mut text = b"before ".to_vec();
        decode(coded, &mut text).then(|| text.split_off(7))
    }

    #[test]
    fn rfc_7541_c_4_1_the_example_is_read() {
        let coded = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decoded(&coded).unwrap(), b"www.example.com");
    }

    #[test]
    fn rfc_7541_5_2_padding_is_ones_and_less_than_a_byte_and_the_end_is_no_text() {
        assert_eq!(decoded(&[]).unwrap(), b"");
        // "a" is 00011.
        assert_eq!(decoded(&[0b0001_1111]).unwrap(), b"a");
        assert_eq!(decoded(&[0b0001_1110]), None, "padding with a zero");
        assert_eq!(decoded(&[0b0001_1111, 0xff]), None, "more than seven bits");
        assert_eq!(decoded(&[0xff, 0xff, 0xff, 0xff]), None, "the end");
    }

    #[test]
    fn every_byte_is_read_as_it_was_written_by_another_encoder() {
        for byte in 0..=255 {
            let mut coded = Vec::new();
            encode(&[byte], &mut coded).unwrap();
            assert_eq!(decoded(&coded), Some(vec![byte]));
        }
    }

    proptest! {
        #[test]
        fn texts_are_read_as_they_were_written(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut coded = Vec::new();
            encode(&text, &mut coded).unwrap();
            prop_assert_eq!(decoded(&coded), Some(text));
        }

        #[test]
        fn whatever_comes_has_at_most_eight_fifths_of_its_length(coded in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(text) = decoded(&coded) {
                prop_assert!(text.len() <= coded.len() * 8 / 5);
            }
        }
    }
}
