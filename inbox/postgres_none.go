//go:build klavi_nopostgres

package inbox

import (
	"context"
	"errors"
)

func openPostgresStore(context.Context, *Store, *Options) error {
	return errors.New("inbox: this Caddy was built without PostgreSQL (klavi_nopostgres)")
}
