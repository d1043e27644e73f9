//! Who is asked, seen from outside.

use super::*;

#[tokio::test(start_paused = true)]
async fn ca_08_all_renditions_of_a_presentation_fail_over_together_and_stay() {
    let site = Site::new(&[HTTP1, HTTP1]);
    let upstream = site.upstream();
    let renditions = [
        "/live/one/v0.m3u8",
        "/live/one/v1.m3u8",
        "/live/one/a0.m3u8",
    ];
    for path in renditions {
        assert_eq!(get(&upstream, &parked(path)).await.unwrap(), ParentId(0));
    }
    site.parents[0].cut_connections();
    site.parents[0].set_door(Door::Refusing);
    settle().await;
    assert_eq!(
        get(&upstream, &parked(renditions[0])).await.unwrap(),
        ParentId(1)
    );
    // One failure is no open circuit, but the presentation has moved as a whole, and stays.
    assert_eq!(upstream.parents()[0].circuit, CircuitStatus::Closed);
    site.parents[0].set_door(Door::Open);
    for path in renditions {
        assert_eq!(get(&upstream, &parked(path)).await.unwrap(), ParentId(1));
        assert_eq!(get(&upstream, &bulk(path)).await.unwrap(), ParentId(1));
    }
    let other = ForwardRequest {
        affinity: "/live/two/".to_owned(),
        ..bulk("/live/two/v0.m3u8")
    };
    assert_eq!(get(&upstream, &other).await.unwrap(), ParentId(0));
}

#[tokio::test(start_paused = true)]
async fn affinity_and_not_the_url_chooses_the_shield() {
    let mut site = Site::new(&[HTTP2, HTTP2, HTTP2]);
    site.config.selection = Selection::Rendezvous;
    let upstream = site.upstream();
    let mut used = std::collections::HashSet::new();
    for presentation in 0..20 {
        let ask = |path: String| ForwardRequest {
            affinity: format!("/live/{presentation}/"),
            ..bulk(&path)
        };
        let first = get(&upstream, &ask("/v0.m3u8".to_owned())).await.unwrap();
        for segment in 0..5 {
            let request = ask(format!("/s{segment}.m4s"));
            assert_eq!(get(&upstream, &request).await.unwrap(), first);
        }
        used.insert(first);
    }
    assert_eq!(used.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn another_parent_is_asked_when_one_is_to_be_avoided() {
    let site = Site::new(&[HTTP1, HTTP1]);
    let upstream = site.upstream();
    let avoiding = ForwardRequest {
        avoid: Some(ParentId(0)),
        ..bulk("/a")
    };
    assert_eq!(get(&upstream, &avoiding).await.unwrap(), ParentId(1));
    assert_eq!(get(&upstream, &bulk("/a")).await.unwrap(), ParentId(0));
    site.parents[1].set_door(Door::Refusing);
    site.parents[1].cut_connections();
    settle().await;
    assert_eq!(get(&upstream, &avoiding).await.unwrap(), ParentId(0));
}
