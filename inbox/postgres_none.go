//go:build klavi_nopostgres

package inbox

import (
	"context"
	"errors"
)

// errWithoutPostgres fails the config: nothing that happens later would mend it.
var errWithoutPostgres = errors.New("this Caddy was built without PostgreSQL: build it without the tag klavi_nopostgres, or have the inbox in a directory (dir)")

func openPostgresStore(context.Context, *Store, *Options) error { return errWithoutPostgres }
