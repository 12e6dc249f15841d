//! Container ids and Kubernetes pods in cgroup paths.

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

/// Length of a Kubernetes uid without the hyphens.
const UID_DIGITS: usize = 32;

/// Uid of the Kubernetes pod that a process belongs to, from its cgroup path, as `kubectl get pod
/// -o yaml` shows it.
///
/// The kubelet names a pod's cgroup after its uid: `/kubepods/besteffort/podUID/` with the
/// cgroupfs driver, `kubepods-burstable-podUID.slice` with the systemd driver, in which a hyphen
/// separates levels and so those of the uid become underscores. Static pods have a hash of their
/// manifest instead, without hyphens. The innermost one wins, for clusters inside pods.
pub fn pod_in_cgroup(path: &str) -> Option<String> {
    path.rsplit(['/', ':']).find_map(pod_in_component)
}

fn pod_in_component(component: &str) -> Option<String> {
    let name = component.strip_suffix(".slice").unwrap_or(component);
    let (before, uid) = name.rsplit_once("pod")?;
    let names_a_pod = before.is_empty() || before.ends_with('-') && before.contains("kubepods-");
    if !names_a_pod {
        return None;
    }
    let is_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if uid.len() == UID_DIGITS && is_hex(uid) {
        return Some(uid.to_owned());
    }
    let parts: Vec<&str> = uid.split(['-', '_']).collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    let is_uid = lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| is_hex(part));
    is_uid.then(|| parts.join("-"))
}

/// Pid of a process in its own pid namespace, from `/proc/PID/status`; `None` when that is the
/// namespace in which it was read, or the kernel does not tell.
///
/// `NSpid` (fs/proc/array.c `task_state`) has one number per level, from the one of this /proc to
/// the innermost.
pub fn ns_pid_in_status(status: &[u8]) -> Option<u32> {
    let text = String::from_utf8_lossy(status);
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    let levels = line.split_ascii_whitespace().skip(1);
    levels.last()?.parse().ok()
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

    const UID: &str = "8f1d0c1e-5a53-4b71-9d47-7f0d7c5f2c7e";

    #[test]
    fn every_way_to_name_a_pod() {
        let underscored = UID.replace('-', "_");
        for path in [
            format!("/kubepods/besteffort/pod{UID}/{ID}"),
            format!("/kubepods/pod{UID}"),
            format!(
                "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{underscored}.slice/cri-containerd-{ID}.scope"
            ),
            format!("/kubepods.slice/kubepods-pod{underscored}.slice/crio-{ID}.scope/nested"),
            format!(
                "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{underscored}.slice/x"
            ),
            format!(
                "/system.slice/containerd.service/kubepods-pod{underscored}.slice:cri-containerd:{ID}"
            ),
            format!("/../../pod{UID}/{ID}"),
            format!("/../kubepods-besteffort-pod{underscored}.slice/cri-containerd-{ID}.scope"),
        ] {
            assert_eq!(pod_in_cgroup(&path).as_deref(), Some(UID), "{path}");
        }
        let hash = "0123456789abcdef0123456789abcdef";
        let path = format!("/kubepods/burstable/pod{hash}/{ID}");
        assert_eq!(pod_in_cgroup(&path).as_deref(), Some(hash));
    }

    #[test]
    fn what_is_no_pod() {
        for path in [
            "/".to_owned(),
            format!("/docker/{ID}"),
            format!("/machine.slice/machine-libpod_pod_{ID}.slice/libpod-{ID}.scope"),
            format!("/machine.slice/libpod-{ID}.scope"),
            format!("/kubepods/pod{UID}0"),
            format!("/kubepods/pod{}", UID.to_uppercase()),
            format!("/user.slice/my-pod{UID}"),
            "/kubepods.slice/kubepods-podabc.slice".to_owned(),
        ] {
            assert_eq!(pod_in_cgroup(&path), None, "{path}");
        }
    }

    #[test]
    fn the_innermost_of_the_pids() {
        let status = b"Name:\tx\nNStgid:\t812\t9\nNSpid:\t812\t40\t7\nNSpgid:\t0\n";
        assert_eq!(ns_pid_in_status(status), Some(7));
        assert_eq!(ns_pid_in_status(b"NSpid:\t812\n"), None);
        assert_eq!(ns_pid_in_status(b"NSpid:\t812\tseven\n"), None);
        assert_eq!(ns_pid_in_status(b"Name:\t\xff\n"), None);
    }

    proptest! {
        #[test]
        fn finds_any_pod_and_only_pods(
            uid in "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
            class in "(burstable|besteffort|)",
            parents in 0_usize..3,
            systemd in any::<bool>(),
        ) {
            let up = "/..".repeat(parents);
            let dash = if class.is_empty() { "" } else { "-" };
            let path = if systemd {
                let uid = uid.replace('-', "_");
                format!("{up}/kubepods.slice/kubepods{dash}{class}-pod{uid}.slice/crio-{ID}.scope")
            } else {
                format!("{up}/kubepods/{class}/pod{uid}/{ID}")
            };
            prop_assert_eq!(pod_in_cgroup(&path), Some(uid));
            prop_assert_eq!(id_in_cgroup(&path), Some(ID));
        }

        #[test]
        fn a_hostile_status_or_path_does_not_panic(
            status in proptest::collection::vec(any::<u8>(), 0..200),
            numbers in "NSpid:[0-9\t -]{0,40}",
            path in "(/|pod|kubepods-|[0-9a-f]{4,12}|[-_:]|\\PC){0,30}",
        ) {
            let _ = ns_pid_in_status(&status);
            let _ = ns_pid_in_status(numbers.as_bytes());
            if let Some(pod) = pod_in_cgroup(&path) {
                prop_assert!(matches!(pod.len(), 32 | 36));
            }
        }

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
