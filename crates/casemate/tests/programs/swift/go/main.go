// The Swift library of ovh-spark-submit, unmodified: what its `--upload` does, and what the library's users do beside.
package main

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"log"
	"math/rand"
	"os"

	"github.com/ncw/swift"
)

func main() {
	log.SetFlags(0)
	// By name, password and domain; the project follows from the user.
	connection := &swift.Connection{
		UserName: os.Getenv("SWIFT_USER"),
		ApiKey:   os.Getenv("SWIFT_PASSWORD"),
		AuthUrl:  os.Getenv("AUTH_URL"),
		Domain:   "Default",
		Region:   os.Getenv("REGION"),
	}
	upload(connection)
	objects(connection)
	segments(connection)

	wrong := &swift.Connection{
		UserName: os.Getenv("SWIFT_USER"), ApiKey: "wrong", AuthUrl: os.Getenv("AUTH_URL"), Domain: "Default", Retries: 1,
	}
	if err := wrong.Authenticate(); err != swift.AuthorizationFailed {
		log.Fatalf("a wrong password: %v", err)
	}
	elsewhere := *connection
	elsewhere.Region = "NOWHERE"
	elsewhere.UnAuthenticate()
	if err := elsewhere.Authenticate(); err == nil {
		log.Fatal("a region that is not there has a store")
	}
	fmt.Println("the Go library did everything")
}

// The conversation of `ovh-spark-submit --upload`: log in, one PUT with the type of the file, forget the token.
func upload(connection *swift.Connection) {
	check(connection.Authenticate())
	container := os.Getenv("BUCKET")
	if err := connection.ObjectPutBytes("not-there", "lines.py", []byte("x"), "text/x-python"); err != swift.ObjectNotFound {
		log.Fatalf("a container that is not there: %v", err)
	}
	check(connection.ContainerCreate(container, nil))
	for name, kind := range map[string]string{"lines.py": "text/x-python; charset=utf-8", "fat.jar": "application/jar"} {
		check(connection.Authenticate())
		content, err := os.ReadFile(os.Getenv("FILE"))
		check(err)
		check(connection.ObjectPutBytes(container, name, content, kind))
		connection.UnAuthenticate()
		check(connection.Authenticate())
		read, err := connection.ObjectGetBytes(container, name)
		check(err)
		same(read, content)
		info, headers, err := connection.Object(container, name)
		check(err)
		if info.Hash != fmt.Sprintf("%x", md5.Sum(content)) || headers["Content-Type"] != kind {
			log.Fatalf("%v %v", info, headers)
		}
	}
}

func objects(connection *swift.Connection) {
	container := os.Getenv("BUCKET")
	for number := 0; number < 25; number++ {
		check(connection.ObjectPutString(container, fmt.Sprintf("many/%02d", number), "1", ""))
	}
	all, err := connection.ObjectsAll(container, &swift.ObjectsOpts{Prefix: "many/", Limit: 10})
	check(err)
	if len(all) != 25 || all[24].Name != "many/24" || all[24].LastModified.IsZero() {
		log.Fatalf("%v", all)
	}
	check(connection.ObjectMove(container, "many/00", container, "moved é"))
	check(connection.ObjectUpdate(container, "moved é", swift.Metadata{"colour": "blue"}.ObjectHeaders()))
	_, headers, err := connection.Object(container, "moved é")
	check(err)
	if headers.ObjectMetadata()["colour"] != "blue" {
		log.Fatalf("%v", headers)
	}
	check(connection.ObjectDelete(container, "moved é"))
	if err := connection.ObjectDelete(container, "moved é"); err != swift.ObjectNotFound {
		log.Fatalf("an object that is gone: %v", err)
	}
	if err := connection.ContainerDelete(container); err != swift.ContainerNotEmpty {
		log.Fatalf("a container with objects: %v", err)
	}
	file, headers, err := connection.ObjectOpen(container, "lines.py", true, nil)
	check(err)
	_, err = file.Seek(5, 0)
	check(err)
	check(file.Close())
}

func segments(connection *swift.Connection) {
	container := os.Getenv("BUCKET")
	content := make([]byte, 3<<20)
	rand.Read(content)
	check(connection.ContainerCreate(container+"_segments", nil))
	file, err := connection.StaticLargeObjectCreate(&swift.LargeObjectOpts{
		Container: container, ObjectName: "large", ChunkSize: 1 << 20, CheckHash: true,
	})
	check(err)
	_, err = file.Write(content)
	check(err)
	check(file.Close())
	read, err := connection.ObjectGetBytes(container, "large")
	check(err)
	same(read, content)
	check(connection.LargeObjectDelete(container, "large"))
	left, err := connection.ObjectNamesAll(container+"_segments", nil)
	check(err)
	if len(left) != 0 {
		log.Fatalf("segments are left: %v", left)
	}
	check(connection.ContainerDelete(container + "_segments"))
}

func same(found, expected []byte) {
	if !bytes.Equal(found, expected) {
		log.Fatalf("%d bytes instead of %d, or others", len(found), len(expected))
	}
}

func check(err error) {
	if err != nil {
		log.Output(2, err.Error())
		panic(err)
	}
}
