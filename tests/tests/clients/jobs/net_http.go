// Go's net/http.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
)

var at = os.Getenv("SHOP") + "/m/" + os.Getenv("CLIENT")

func body(answer *http.Response, err error) string {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return string(text)
}

func main() {
	fmt.Println("get", body(http.Get(at+"/get")))
	posted := strings.NewReader("posted by " + os.Getenv("CLIENT"))
	fmt.Println("post", body(http.Post(at+"/post", "text/plain", posted)))
	fmt.Println("redirect", body(http.Get(at+"/redirect")))
	fmt.Printf("download %x\n", sha256.Sum256([]byte(body(http.Get(at+"/download")))))
	bulk, _ := os.Open(os.Getenv("BULK"))
	size, _ := bulk.Stat()
	upload, _ := http.NewRequest("PUT", at+"/upload", bulk)
	upload.ContentLength = size.Size()
	fmt.Println("upload", body(http.DefaultClient.Do(upload)))
	var all sync.WaitGroup
	answers := make([]*http.Response, 3)
	for page := range answers {
		all.Add(1)
		go func(page int) {
			defer all.Done()
			answer, err := http.Get(fmt.Sprintf("%s/own?page=%d", at, page))
			body(answer, err)
			answers[page] = answer
		}(page)
	}
	all.Wait()
	fmt.Println("own", answers[0].Proto, answers[1].Status, answers[2].Status)
}
