require "digest"
require "net/http"

AT = URI("#{ENV["SHOP"]}/m/#{ENV["CLIENT"]}")

def tell(job, text) = puts("#{job} #{text}")
def at(path) = URI("#{AT}/#{path}")

Net::HTTP.start(AT.host, AT.port, use_ssl: true) do |http|
  tell "get", http.get(at("get").path).body
  tell "post", http.post(at("post").path, "posted by #{ENV["CLIENT"]}").body
  moved = http.get(at("redirect").path)
  tell "redirect", http.get(URI(moved["location"]).path).body
  sha = Digest::SHA256.new
  http.request_get(at("download").path) { |answer| answer.read_body { |piece| sha << piece } }
  tell "download", sha.hexdigest
  upload = Net::HTTP::Put.new(at("upload").path)
  File.open(ENV["BULK"], "rb") do |bulk|
    upload.body_stream = bulk
    upload.content_length = bulk.size
    tell "upload", http.request(upload).body
  end
  form = Net::HTTP::Post.new(at("own").path)
  form.set_form([["file", "hello", { filename: "a.txt" }]], "multipart/form-data")
  tell "own", http.request(form).body
end
