<?php
// PHP's own streams.
$at = getenv("SHOP") . "/m/" . getenv("CLIENT");
$ask = fn($path, $method = "GET", $body = "") => file_get_contents("$at/$path", false, stream_context_create(
    ["http" => ["method" => $method, "content" => $body, "header" => "Content-Type: application/octet-stream"]]
));
echo "get ", $ask("get"), "\n";
echo "post ", $ask("post", "POST", "posted by " . getenv("CLIENT")), "\n";
echo "redirect ", $ask("redirect"), "\n";
echo "download ", hash_file("sha256", "$at/download"), "\n";
echo "upload ", $ask("upload", "PUT", file_get_contents(getenv("BULK"))), "\n";
echo "own ", $ask("own", "DELETE"), "\n";
