//! Bounds on huge pages, a file for each size that the processor has.

use crate::plan::Write;
use crate::{Amount, CgroupError};

/// Size in the kernel's words, file of v1, file of v2: all sizes of the processors that Linux runs on.
///
/// Source: Documentation/admin-guide/mm/hugetlbpage.rst and mm/hugetlb_cgroup.c, mem_fmt.
const SIZES: [(&str, &str, &str); 8] = [
    ("64KB", "hugetlb.64KB.limit_in_bytes", "hugetlb.64KB.max"),
    ("1MB", "hugetlb.1MB.limit_in_bytes", "hugetlb.1MB.max"),
    ("2MB", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
    ("16MB", "hugetlb.16MB.limit_in_bytes", "hugetlb.16MB.max"),
    ("32MB", "hugetlb.32MB.limit_in_bytes", "hugetlb.32MB.max"),
    ("512MB", "hugetlb.512MB.limit_in_bytes", "hugetlb.512MB.max"),
    ("1GB", "hugetlb.1GB.limit_in_bytes", "hugetlb.1GB.max"),
    ("16GB", "hugetlb.16GB.limit_in_bytes", "hugetlb.16GB.max"),
];

/// A bound on the pages of one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugePages {
    /// As the kernel writes it: `2MB`.
    pub page_size: String,
    /// Bytes; -1 is none.
    pub limit_bytes: i64,
}

/// Every size is one that some processor has.
pub(crate) fn check(bounds: &[HugePages]) -> Result<Vec<(usize, Amount)>, CgroupError> {
    let invalid = |rule: String| CgroupError::FieldInvalid { field: "hugetlb_limits", rule };
    let one = |bound: &HugePages| {
        let index = SIZES.iter().position(|(size, _, _)| *size == bound.page_size).ok_or_else(|| {
            let known: Vec<&str> = SIZES.iter().map(|(size, _, _)| *size).collect();
            invalid(format!("have a page size of {}", known.join(", ")))
        })?;
        match bound.limit_bytes {
            -1 => Ok((index, Amount::Unlimited)),
            bytes => match u64::try_from(bytes) {
                Ok(bytes) => Ok((index, Amount::Limited(bytes))),
                Err(_) => Err(invalid("are -1 (unlimited) or not negative".to_owned())),
            },
        }
    };
    bounds.iter().map(one).collect()
}

pub(crate) fn writes_v1(bounds: &[(usize, Amount)]) -> Vec<Write> {
    bounds
        .iter()
        .map(|(index, bytes)| Write::new(SIZES[*index].1, bytes.text("-1"), "hugetlb_limits"))
        .collect()
}

pub(crate) fn writes_v2(bounds: &[(usize, Amount)]) -> Vec<Write> {
    bounds
        .iter()
        .map(|(index, bytes)| Write::new(SIZES[*index].2, bytes.text("max"), "hugetlb_limits"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_its_file_and_an_unknown_one_is_told_which_there_are() {
        let bound = |size: &str, limit_bytes| HugePages { page_size: size.to_owned(), limit_bytes };
        let checked = check(&[bound("2MB", 4 << 20), bound("1GB", -1)]).unwrap();
        let texts: Vec<_> = writes_v2(&checked).into_iter().map(|write| (write.file, write.value)).collect();
        assert_eq!(texts, [("hugetlb.2MB.max", "4194304".into()), ("hugetlb.1GB.max", "max".to_owned())]);
        assert_eq!(writes_v1(&checked)[1].value, "-1");
        for size in ["", "3MB", "../x", "2mb"] {
            assert!(check(&[bound(size, 1)]).unwrap_err().to_string().contains("2MB"), "{size}");
        }
        assert!(check(&[bound("2MB", -2)]).is_err());
    }
}
