package postgrestest

import (
	"os"
	"sync"
	"testing"
)

var shared struct {
	once   sync.Once
	server *Server
	err    error
}

// Shared returns the server of all tests of this process. Each takes a database of its
// own, and leaves the server as it is.
func Shared(t testing.TB) *Server {
	t.Helper()
	c := needCluster(t)
	shared.once.Do(func() {
		shared.server = &Server{dir: c.newDir(), shared: true}
		shared.err = shared.server.start(c)
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.server
}

// Tests are those of a package: a [testing.M], or what runs one.
type Tests interface{ Run() int }

// Main is for the TestMain of a package whose tests have servers: it runs them and
// leaves nothing behind.
//
//	func TestMain(m *testing.M) { os.Exit(postgrestest.Main(m).Run()) }
func Main(m Tests) Tests { return tests{m} }

type tests struct{ Tests }

func (m tests) Run() int {
	theCluster.main = true
	defer func() {
		if shared.server != nil {
			shared.server.remove()
		}
		if theCluster.dir != "" {
			_ = os.RemoveAll(theCluster.dir)
		}
	}()
	return m.Tests.Run()
}
