//! Sizes in bytes, as people write them on a command line.

/// Reads `512MiB`, `1.5GiB`, `64KiB`, `20MB` or a number of bytes.
///
/// Not with `bytesize`, to which `512M` is 512,000,000 bytes: here, as to most programs that limit memory, it is 512 MiB.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size like `512MiB`, `2GB` or `65536`");
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let bytes = match unit.trim_start() {
        "" | "B" => 1.0,
        "KiB" | "K" => 1024.0,
        "MiB" | "M" => 1024.0 * 1024.0,
        "GiB" | "G" => 1024.0 * 1024.0 * 1024.0,
        "TiB" | "T" => 1024.0 * 1024.0 * 1024.0 * 1024.0,
        "kB" | "KB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "TB" => 1e12,
        _ => return Err(wrong()),
    };
    Ok((number * bytes).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("512MiB", 512 << 20),
            ("1.5GiB", 3 << 29),
            ("64 KiB", 65_536),
            ("20MB", 20_000_000),
            ("7", 7),
            ("2G", 2 << 30),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "5 parsecs", "-1", "1.2.3GiB"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
