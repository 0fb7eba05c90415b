import './pure.test';
import './history.test';
import './markdown.test';
import './outbox.test';
import './people.test';
import './fleet.test';
