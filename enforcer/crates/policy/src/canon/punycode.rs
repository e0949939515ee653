//! Decodes punycode (RFC 3492), only to see whether an `xn--` label is genuine.
//!
//! Left out: mapping and validity tables of IDNA. Hosts are compared in their encoded form.

const BASE: u32 = 36;
const T_MIN: u32 = 1;
const T_MAX: u32 = 26;

/// The characters a label stands for; `None` where it is not punycode.
pub(super) fn decode(encoded: &str) -> Option<Vec<char>> {
    let (basic, extended) = encoded.rsplit_once('-').unwrap_or(("", encoded));
    let mut output: Vec<char> = basic.chars().collect();
    let (mut code, mut index, mut bias) = (128u32, 0u32, 72u32);
    let mut digits = extended.bytes().map(digit).peekable();
    while digits.peek().is_some() {
        let before = index;
        let (mut weight, mut k) = (1u32, BASE);
        loop {
            let digit = digits.next()??;
            index = index.checked_add(digit.checked_mul(weight)?)?;
            let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
            if digit < threshold {
                break;
            }
            weight = weight.checked_mul(BASE - threshold)?;
            k += BASE;
        }
        let length = u32::try_from(output.len()).ok()? + 1;
        bias = adapt(index - before, length, before == 0);
        code = code.checked_add(index / length)?;
        index %= length;
        output.insert(index as usize, char::from_u32(code)?);
        index += 1;
    }
    Some(output)
}

fn digit(byte: u8) -> Option<u32> {
    match byte {
        b'a'..=b'z' => Some(u32::from(byte - b'a')),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 26),
        _ => None,
    }
}

fn adapt(delta: u32, length: u32, first: bool) -> u32 {
    let mut delta = if first { delta / 700 } else { delta / 2 };
    delta += delta / length;
    let mut k = 0;
    while delta > (BASE - T_MIN) * T_MAX / 2 {
        delta /= BASE - T_MIN;
        k += BASE;
    }
    k + (BASE - T_MIN + 1) * delta / (delta + 38)
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn vectors_of_rfc_3492_and_the_root_zone() {
        for (encoded, expected) in [
            ("bcher-kva", "bücher"),
            ("mnchen-3ya", "münchen"),
            ("fiqs8s", "中国"),
            ("p1ai", "рф"),
            ("ihqwcrb4cv8a8dqg056pqjye", "他们为什么不说中文"),
        ] {
            assert_eq!(decode(encoded).unwrap().iter().collect::<String>(), expected);
        }
        assert_eq!(decode("example-").unwrap().iter().collect::<String>(), "example");
        for bad in ["99999999", "a_b", "é"] {
            assert!(decode(bad).is_none(), "{bad}");
        }
    }
}
