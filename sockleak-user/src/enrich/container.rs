//! Container ids in cgroup paths.

/// Length of the ids that docker, containerd, CRI-O and podman give their containers.
const ID_LEN: usize = 64;

/// Container id of a process, from its cgroup path: 64 lowercase hex digits.
///
/// The runtimes name a container's cgroup after its id, bare (`/docker/ID`,
/// `/kubepods/burstable/podUID/ID`), as a systemd scope (`docker-ID.scope`,
/// `cri-containerd-ID.scope`, `crio-ID.scope`, `libpod-ID.scope`) or behind a slice
/// (`system.slice:docker:ID`). The innermost one wins, for containers inside containers. The
/// monitors (`crio-conmon-ID`, `libpod-conmon-ID`) stand outside the container they watch.
pub fn id_in_cgroup(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(id_in_component)
}

fn id_in_component(component: &str) -> Option<&str> {
    let name = component.strip_suffix(".scope").unwrap_or(component);
    let start = name.len().checked_sub(ID_LEN)?;
    let (prefix, id) = (name.get(..start)?, name.get(start..)?);
    let is_id = id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let stands_alone = prefix.is_empty() || prefix.ends_with(['-', ':']);
    (is_id && stands_alone && !prefix.ends_with("conmon-")).then_some(id)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "4f66ff0ce8c9bd2c0ba3bfb5ea1a3f4b3f1f0b1b2c3d4e5f60718293a4b5c6d7";
    const OTHER: &str = "00000000000000000000000000000000000000000000000000000000000000ab";

    #[test]
    fn every_runtime() {
        for path in [
            format!("/docker/{ID}"),
            format!("/system.slice/docker-{ID}.scope"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podabc.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods/besteffort/pod8f1d0c1e-5a53-4b71-9d47-7f0d7c5f2c7e/{ID}"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
            format!("/docker/{ID}/init.scope"),
            format!("/docker/{OTHER}/docker/{ID}"),
            format!("/../../docker/{ID}"),
        ] {
            assert_eq!(id_in_cgroup(&path), Some(ID), "{path}");
        }
    }

    #[test]
    fn what_is_no_container() {
        for path in [
            "/".to_owned(),
            String::new(),
            "/system.slice/ssh.service".to_owned(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/crio-conmon-{ID}.scope"),
            format!("/docker/{}", ID.to_uppercase()),
            format!("/docker/{ID}0"),
            format!("/docker/{}", &ID[1..]),
            format!("/docker/g{}", &ID[1..]),
        ] {
            assert_eq!(id_in_cgroup(&path), None, "{path}");
        }
    }

    proptest! {
        #[test]
        fn finds_any_id_and_only_ids(
            id in "[0-9a-f]{64}",
            parent in "(/[a-z.-]{1,20}){0,3}",
            prefix in "(docker-|cri-containerd-|crio-|libpod-|a:b:)?",
            suffix in "(\\.scope)?(/[a-z]{1,10})?",
        ) {
            let path = format!("{parent}/{prefix}{id}{suffix}");
            prop_assert_eq!(id_in_cgroup(&path), Some(id.as_str()));
        }

        #[test]
        fn never_panics_and_returns_ids(path in "\\PC{0,200}") {
            if let Some(id) = id_in_cgroup(&path) {
                prop_assert!(id.len() == 64 && path.contains(id));
            }
        }
    }
}
