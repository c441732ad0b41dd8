//! Embeddings and ranks from a real file through the program: the reference's numbers over HTTP.

use serde_json::{Value, json};

use crate::program::{golden, golden_json};
use crate::serve::Server;

fn asked(server: &Server, path: &str, body: &Value) -> Value {
    let (status, text) = server.call("POST", path, Some(body));
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap()
}

fn floats(json: &Value) -> Vec<f32> {
    json.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

#[test]
fn embeddings_are_the_reference_s() {
    let known = golden_json("vectors/qwen3-embedding.json");
    let cases = known["cases"].as_array().unwrap();
    let server = Server::ready(&golden("vectors/qwen3-embedding.gguf"), &["--exact"]);
    let texts: Vec<&Value> = cases.iter().map(|case| &case["text"]).collect();
    for (name, dimensions) in [("last", 64), ("last_16", 16)] {
        let answer = asked(&server, "/v1/embeddings", &json!({"input": texts, "dimensions": dimensions}));
        let n_token: usize = cases.iter().map(|case| case["ids"].as_array().unwrap().len()).sum();
        assert_eq!(answer["usage"], json!({"prompt_tokens": n_token, "total_tokens": n_token}));
        for (item, case) in answer["data"].as_array().unwrap().iter().zip(cases) {
            let error = testkit::nmse(&floats(&item["embedding"]), &floats(&case[name]));
            assert!(error < 1e-9, "{name} of {}: {error:e}", case["text"]);
        }
    }
    let models: Value = serde_json::from_str(&server.call("GET", "/v1/models", None).1).unwrap();
    assert_eq!(
        models["data"][0]["embeddings"],
        json!({"pooling": "last", "pooling_of_file": true, "dimensions": 64, "max_input_tokens": 512})
    );
    assert_eq!(models["data"][0]["rerank"], false);
}

#[test]
fn documents_are_ranked_as_by_the_reference() {
    let known = golden_json("vectors/qwen3-reranker.json");
    let ranks = known["ranks"].as_array().unwrap();
    let server = Server::ready(&golden("vectors/qwen3-reranker.gguf"), &["--exact"]);
    let documents: Vec<&Value> = ranks.iter().map(|rank| &rank["document"]).collect();
    let answer = asked(
        &server,
        "/v1/rerank",
        &json!({"query": known["query"], "documents": documents, "return_documents": true}),
    );
    let results = answer["results"].as_array().unwrap();
    let indices: Vec<&Value> = results.iter().map(|result| &result["index"]).collect();
    assert_eq!(indices, [1, 4, 0, 2, 3]);
    for result in results {
        let known = &ranks[usize::try_from(result["index"].as_u64().unwrap()).unwrap()];
        let [found, expected] = [&result["relevance_score"], &known["score"]].map(|x| x.as_f64().unwrap());
        assert!((found - expected).abs() < 1e-6, "{result} and {expected}");
        assert_eq!(result["document"], json!({"text": known["document"]}));
    }
    let best = json!({"query": known["query"], "documents": documents, "top_n": 1});
    let best = asked(&server, "/rerank", &best);
    let [one] = &best["results"].as_array().unwrap()[..] else { panic!("{best}") };
    assert_eq!((&one["index"], one.get("document")), (&json!(1), None));
    // In the form of Hugging Face's text embeddings inference.
    let texts = json!({"query": known["query"], "texts": documents, "return_text": true, "truncate": false});
    let bare = asked(&server, "/rerank", &texts);
    for (bare, result) in bare.as_array().unwrap().iter().zip(results) {
        let same = json!({"index": result["index"], "score": result["relevance_score"], "text": result["document"]["text"]});
        assert_eq!(*bare, same);
    }
    let both = json!({"query": "a", "texts": ["a"], "documents": ["a"]});
    let (status, text) = server.call("POST", "/rerank", Some(&both));
    assert!(status == 400 && text.contains("texts: expected none beside documents"), "{status} {text}");
    // It is not one that embeds.
    let (status, text) = server.call("POST", "/v1/embeddings", Some(&json!({"input": "a"})));
    assert!(status == 400 && text.contains("use POST /v1/rerank"), "{status} {text}");
    let models: Value = serde_json::from_str(&server.call("GET", "/v1/models", None).1).unwrap();
    assert_eq!(
        (&models["data"][0]["embeddings"], &models["data"][0]["rerank"]),
        (&Value::Null, &json!(true))
    );
}
