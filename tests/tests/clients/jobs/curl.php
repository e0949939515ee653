<?php
// PHP's binding of libcurl.
$at = getenv("SHOP") . "/m/" . getenv("CLIENT");
function ask($url, $options = []) {
    $handle = curl_init($url);
    curl_setopt_array($handle, $options + [CURLOPT_RETURNTRANSFER => true, CURLOPT_FOLLOWLOCATION => true]);
    $answer = curl_exec($handle);
    if ($answer === false) {
        fwrite(STDERR, curl_error($handle) . "\n");
        exit(1);
    }
    return $answer;
}
echo "get ", ask("$at/get"), "\n";
echo "post ", ask("$at/post", [CURLOPT_POSTFIELDS => "posted by " . getenv("CLIENT")]), "\n";
echo "redirect ", ask("$at/redirect"), "\n";
echo "download ", hash("sha256", ask("$at/download")), "\n";
$bulk = getenv("BULK");
$upload = [CURLOPT_PUT => true, CURLOPT_INFILE => fopen($bulk, "rb"), CURLOPT_INFILESIZE => filesize($bulk)];
echo "upload ", ask("$at/upload", $upload), "\n";
echo "own ", ask("$at/own", [CURLOPT_POSTFIELDS => ["file" => new CURLStringFile("hello", "a.txt")]]), "\n";
