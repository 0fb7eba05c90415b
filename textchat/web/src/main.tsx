import { render } from 'preact';
import { App } from './components/App';
import { start } from './session';
import './style.css';

start();
render(<App />, document.getElementById('app')!);
