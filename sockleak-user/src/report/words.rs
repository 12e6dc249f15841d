//! Counts and names in sentences, the same in all of them. Figures that programs read stay numbers.

/// `12,001`
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `12,001 ports`, `1 port`
pub fn counted(value: u64, noun: &str) -> String {
    let plural = match value {
        1 => "",
        _ if noun.ends_with("ss") || noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {noun}{plural}", count(value))
}

/// `java[4684]`, `pid 4684` where it has no name
pub fn named(comm: &str, pid: u32) -> String {
    match comm {
        "" => format!("pid {pid}"),
        comm => format!("{comm}[{pid}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(41_019), "41,019");
        assert_eq!(count(u64::MAX), "18,446,744,073,709,551,615");
        assert_eq!(counted(1, "process"), "1 process");
        assert_eq!(counted(0, "process"), "0 processes");
        assert_eq!(counted(12_001, "port"), "12,001 ports");
    }

    #[test]
    fn who_has_no_name_has_a_pid() {
        assert_eq!(named("java", 4684), "java[4684]");
        assert_eq!(named("", 4684), "pid 4684");
    }
}
